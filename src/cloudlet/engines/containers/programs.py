"""Two programs of a few dozen bytes, as machine code: there may be no compiler here, and images may have nothing."""

from __future__ import annotations

import platform
import struct

_BASE = 0x400000
_HEAD = 64 + 56


def pause() -> bytes:
    """A static Linux program that waits until it is killed. Raises KeyError on machines that we have no code for."""
    return _program(
        {
            # mov eax, 34 (pause); syscall; jump back
            "x86_64": bytes.fromhex("b822000000 0f05 ebf7"),
            # x0 to x4 = 0; x8 = 73 (ppoll); svc 0; branch back
            "aarch64": _words(
                *(0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003, 0xD2800004, 0xD2800928, 0xD4000001, 0x17FFFFF9)
            ),
        }
    )


def become(user: int, group: int) -> bytes:
    """A static Linux program that runs its arguments as another user, in no other group. Raises KeyError as ``pause``.

    The first argument is a path: nothing is searched. It exits with 126 when that cannot be run.
    """
    return _program(
        {
            "x86_64": (
                # setgroups(0, 0)
                bytes.fromhex("31ff 31f6 b874000000 0f05")
                # setgid(group); setuid(user)
                + b"\xbf"
                + struct.pack("<I", group)
                + bytes.fromhex("b86a000000 0f05")
                + b"\xbf"
                + struct.pack("<I", user)
                + bytes.fromhex("b869000000 0f05")
                # test eax, eax; jnz to the exit (24 bytes on)
                + bytes.fromhex("85c0 7518")
                # mov rcx, [rsp]; lea rdx, [rsp+rcx*8+16]; lea rsi, [rsp+16]; mov rdi, [rsi]; al = 59 (execve)
                + bytes.fromhex("488b0c24 488d54cc10 488d742410 488b3e b03b 0f05 90 90 90")
                # exit(126)
                + bytes.fromhex("bf7e000000 b83c000000 0f05")
            ),
            "aarch64": _words(
                # setgroups(0, 0)
                *(0xD2800000, 0xD2800001, 0xD28013E8, 0xD4000001),
                # setgid(group); setuid(user): w0 in halves, x8 = 144 and 146
                *(0x52800000 | (group & 0xFFFF) << 5, 0x72A00000 | (group >> 16) << 5, 0xD2801208, 0xD4000001),
                *(0x52800000 | (user & 0xFFFF) << 5, 0x72A00000 | (user >> 16) << 5, 0xD2801248, 0xD4000001),
                # cbnz x0 to the exit; ldr x2, [sp]; add x1, sp, 16; add x2, x1, x2, lsl 3; ldr x0, [x1]
                *(0xB50000E0, 0xF94003E2, 0x910043E1, 0x8B020C22, 0xF9400020),
                # x8 = 221 (execve); svc 0; exit(126)
                *(0xD2801BA8, 0xD4000001, 0xD2800FC0, 0xD2800BA8, 0xD4000001),
            ),
        }
    )


def _program(codes: dict[str, bytes]) -> bytes:
    machine = platform.machine().replace("arm64", "aarch64")
    code, number = codes[machine], {"x86_64": 62, "aarch64": 183}[machine]
    size = _HEAD + len(code)
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _BASE + _HEAD, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return elf + segment + code


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)
