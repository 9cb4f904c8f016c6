package cloudlet;

import java.io.*;
import java.lang.reflect.*;
import java.math.BigDecimal;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.*;

/** The Java runtime: loads the handler and speaks Lambda's Runtime API. Runs in the sandbox, with the JDK only. */
public final class Bootstrap {
    private static final String BASE = "http://" + System.getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime";

    /** What one invocation does with an event. */
    interface Handler {
        byte[] handle(byte[] event, Map<String, String> headers) throws Throwable;
    }

    public static void main(String[] arguments) throws Exception {
        Handler handler = null;
        try {
            handler = load(System.getenv("_HANDLER"));
        } catch (Throwable error) {
            ask("POST", "/init/error", describe(error));
            System.exit(1);
        }
        while (true) {
            Map<String, String> headers = new HashMap<>();
            byte[] event = ask("GET", "/invocation/next", null, headers);
            String id = headers.get("lambda-runtime-aws-request-id");
            String trace = headers.get("lambda-runtime-trace-id");
            if (trace != null) System.setProperty("com.amazonaws.xray.traceHeader", trace);
            try {
                byte[] answer = handler.handle(event, headers);
                System.out.flush();
                System.err.flush();
                ask("POST", "/invocation/" + id + "/response", answer);
            } catch (Throwable error) {
                error.printStackTrace();
                System.out.flush();
                System.err.flush();
                ask("POST", "/invocation/" + id + "/error", describe(error));
            }
        }
    }

    // The Runtime API

    private static byte[] ask(String method, String path, byte[] body) throws IOException {
        return ask(method, path, body, new HashMap<>());
    }

    private static byte[] ask(String method, String path, byte[] body, Map<String, String> headers) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) new URL(BASE + path).openConnection(java.net.Proxy.NO_PROXY);
        connection.setRequestMethod(method);
        if (body != null) {
            connection.setDoOutput(true);
            connection.setFixedLengthStreamingMode(body.length);
            connection.setRequestProperty("Content-Type", "application/json");
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body);
            }
        }
        connection.getHeaderFields().forEach((name, values) -> {
            if (name != null) headers.put(name.toLowerCase(Locale.ROOT), values.get(0));
        });
        InputStream in = connection.getResponseCode() < 400 ? connection.getInputStream() : connection.getErrorStream();
        return in == null ? new byte[0] : in.readAllBytes();
    }

    private static byte[] describe(Throwable error) {
        List<Object> trace = new ArrayList<>();
        for (StackTraceElement element : error.getStackTrace()) {
            if (element.getClassName().startsWith("cloudlet.")) break;
            trace.add(element.toString());
        }
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("errorMessage", error.getMessage());
        document.put("errorType", error.getClass().getName());
        document.put("stackTrace", trace);
        return Json.write(document);
    }

    // The handler: package.Class::method, or package.Class that implements one of Lambda's two interfaces

    private static Handler load(String name) throws Throwable {
        String[] parts = name.split("::");
        Class<?> type = Class.forName(parts[0]);
        Class<?> stream = find("com.amazonaws.services.lambda.runtime.RequestStreamHandler");
        Class<?> request = find("com.amazonaws.services.lambda.runtime.RequestHandler");
        Method method;
        if (parts.length > 1) {
            method = choose(type, parts[1]);
        } else if (stream != null && stream.isAssignableFrom(type) || request != null && request.isAssignableFrom(type)) {
            method = choose(type, "handleRequest");
        } else {
            throw new ClassNotFoundException("Class " + parts[0] + " does not implement an appropriate handler interface");
        }
        Object target = Modifier.isStatic(method.getModifiers()) ? null : type.getDeclaredConstructor().newInstance();
        method.setAccessible(true);
        return (event, headers) -> call(method, target, type, event, headers);
    }

    /** The method of that name that says most: no bridge, and the one with most parameters. */
    private static Method choose(Class<?> type, String name) throws NoSuchMethodException {
        Method best = null;
        for (Method method : type.getMethods()) {
            if (!method.getName().equals(name) || method.isBridge()) continue;
            if (best == null || method.getParameterCount() > best.getParameterCount()) best = method;
        }
        if (best == null) throw new NoSuchMethodException("No public method named " + name + " with appropriate method signature found on class " + type.getName());
        return best;
    }

    private static byte[] call(Method method, Object target, Class<?> owner, byte[] event, Map<String, String> headers)
            throws Throwable {
        Class<?>[] kinds = method.getParameterTypes();
        Type[] types = method.getGenericParameterTypes();
        ByteArrayOutputStream out = null;
        Object[] values = new Object[kinds.length];
        for (int i = 0; i < kinds.length; i++) {
            if (kinds[i].getName().equals("com.amazonaws.services.lambda.runtime.Context")) {
                values[i] = context(kinds[i], headers);
            } else if (InputStream.class.isAssignableFrom(kinds[i])) {
                values[i] = new ByteArrayInputStream(event);
            } else if (OutputStream.class.isAssignableFrom(kinds[i])) {
                values[i] = out = new ByteArrayOutputStream();
            } else {
                values[i] = Json.as(Json.read(new String(event, StandardCharsets.UTF_8)), resolve(types[i], owner, kinds[i]));
            }
        }
        try {
            Object answer = method.invoke(target, values);
            return out != null ? out.toByteArray() : Json.write(answer);
        } catch (InvocationTargetException error) {
            throw error.getCause();
        }
    }

    /** A type variable of an inherited method, as the class that implements it says. */
    private static Type resolve(Type type, Class<?> owner, Class<?> erased) {
        if (!(type instanceof TypeVariable)) return type;
        for (Class<?> at = owner; at != null; at = at.getSuperclass()) {
            if (at.getGenericSuperclass() instanceof ParameterizedType) {
                ParameterizedType parent = (ParameterizedType) at.getGenericSuperclass();
                TypeVariable<?>[] names = ((Class<?>) parent.getRawType()).getTypeParameters();
                for (int i = 0; i < names.length; i++) {
                    if (names[i].equals(type)) return parent.getActualTypeArguments()[i];
                }
            }
        }
        return erased;
    }

    private static Class<?> find(String name) {
        try {
            return Class.forName(name);
        } catch (ClassNotFoundException missing) {
            return null;
        }
    }

    private static Object context(Class<?> type, Map<String, String> headers) {
        long deadline = Long.parseLong(headers.getOrDefault("lambda-runtime-deadline-ms", "0"));
        return java.lang.reflect.Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (self, method, given) -> {
            switch (method.getName()) {
                case "getAwsRequestId": return headers.get("lambda-runtime-aws-request-id");
                case "getInvokedFunctionArn": return headers.get("lambda-runtime-invoked-function-arn");
                case "getFunctionName": return System.getenv("AWS_LAMBDA_FUNCTION_NAME");
                case "getFunctionVersion": return System.getenv("AWS_LAMBDA_FUNCTION_VERSION");
                case "getLogGroupName": return System.getenv("AWS_LAMBDA_LOG_GROUP_NAME");
                case "getLogStreamName": return System.getenv("AWS_LAMBDA_LOG_STREAM_NAME");
                case "getMemoryLimitInMB": return Integer.parseInt(System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
                case "getRemainingTimeInMillis": return (int) Math.max(0, deadline - System.currentTimeMillis());
                case "getLogger": return logger(method.getReturnType());
                case "toString": return "Context of " + headers.get("lambda-runtime-aws-request-id");
                case "hashCode": return System.identityHashCode(self);
                case "equals": return self == given[0];
                default: return null;
            }
        });
    }

    private static Object logger(Class<?> type) {
        return java.lang.reflect.Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (self, method, given) -> {
            if (method.getName().equals("log")) {
                System.out.println(given[0] instanceof byte[] ? new String((byte[]) given[0], StandardCharsets.UTF_8) : given[0]);
            }
            return null;
        });
    }

    /** JSON to Java's types and back: maps, lists, texts, numbers, and beans by their setters, getters and fields. */
    static final class Json {
        private final String text;
        private int at;

        private Json(String text) {
            this.text = text;
        }

        static Object read(String text) {
            Json json = new Json(text);
            Object value = json.value();
            json.space();
            if (json.at < text.length()) throw json.wrong();
            return value;
        }

        private RuntimeException wrong() {
            return new IllegalArgumentException("The event is not JSON at character " + at);
        }

        private void space() {
            while (at < text.length() && Character.isWhitespace(text.charAt(at))) at++;
        }

        private boolean take(char wanted) {
            space();
            if (at < text.length() && text.charAt(at) == wanted) {
                at++;
                return true;
            }
            return false;
        }

        private Object value() {
            space();
            if (at >= text.length()) throw wrong();
            if (take('{')) {
                Map<String, Object> map = new LinkedHashMap<>();
                if (take('}')) return map;
                do {
                    space();
                    String key = string();
                    if (!take(':')) throw wrong();
                    map.put(key, value());
                } while (take(','));
                if (!take('}')) throw wrong();
                return map;
            }
            if (take('[')) {
                List<Object> list = new ArrayList<>();
                if (take(']')) return list;
                do {
                    list.add(value());
                } while (take(','));
                if (!take(']')) throw wrong();
                return list;
            }
            if (text.charAt(at) == '"') return string();
            for (Object[] word : new Object[][] {{"true", true}, {"false", false}, {"null", null}}) {
                if (text.startsWith((String) word[0], at)) {
                    at += ((String) word[0]).length();
                    return word[1];
                }
            }
            int from = at;
            while (at < text.length() && "+-0123456789.eE".indexOf(text.charAt(at)) >= 0) at++;
            if (from == at) throw wrong();
            String number = text.substring(from, at);
            if (number.matches("-?\\d{1,9}")) return Integer.parseInt(number);
            if (number.matches("-?\\d{1,18}")) return Long.parseLong(number);
            return Double.parseDouble(number);
        }

        private String string() {
            if (!take('"')) throw wrong();
            StringBuilder built = new StringBuilder();
            while (at < text.length()) {
                char c = text.charAt(at++);
                if (c == '"') return built.toString();
                if (c != '\\') {
                    built.append(c);
                    continue;
                }
                c = text.charAt(at++);
                int place = "bfnrt".indexOf(c);
                if (c == 'u') {
                    built.append((char) Integer.parseInt(text.substring(at, at + 4), 16));
                    at += 4;
                } else {
                    built.append(place >= 0 ? "\b\f\n\r\t".charAt(place) : c);
                }
            }
            throw wrong();
        }

        /** A read value as a declared type has it. */
        static Object as(Object value, Type type) throws ReflectiveOperationException {
            if (type instanceof ParameterizedType) {
                ParameterizedType generic = (ParameterizedType) type;
                Type[] inner = generic.getActualTypeArguments();
                if (value instanceof Map && inner.length == 2) {
                    Map<Object, Object> map = new LinkedHashMap<>();
                    for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                        map.put(as(entry.getKey(), inner[0]), as(entry.getValue(), inner[1]));
                    }
                    return map;
                }
                if (value instanceof List && inner.length == 1) {
                    Collection<Object> all = Set.class.isAssignableFrom((Class<?>) generic.getRawType()) ? new LinkedHashSet<>() : new ArrayList<>();
                    for (Object one : (List<?>) value) all.add(as(one, inner[0]));
                    return all;
                }
                return as(value, generic.getRawType());
            }
            if (type instanceof WildcardType) return as(value, ((WildcardType) type).getUpperBounds()[0]);
            if (!(type instanceof Class) || value == null) return value;
            Class<?> kind = (Class<?>) type;
            if (kind == String.class) return value instanceof String || value instanceof Number || value instanceof Boolean ? String.valueOf(value) : new String(write(value), StandardCharsets.UTF_8);
            if (kind.isInstance(value)) return value;
            if (value instanceof String && kind.isEnum()) return kind.getMethod("valueOf", String.class).invoke(null, value);
            if (value instanceof String && kind == ByteBuffer.class) return ByteBuffer.wrap(Base64.getDecoder().decode((String) value));
            if (value instanceof String && kind == byte[].class) return Base64.getDecoder().decode((String) value);
            if (value instanceof Boolean && (kind == boolean.class || kind == Boolean.class)) return value;
            if (value instanceof Number || value instanceof String && (kind.isPrimitive() || Number.class.isAssignableFrom(kind))) {
                BigDecimal number = new BigDecimal(value.toString());
                if (kind == int.class || kind == Integer.class) return number.intValue();
                if (kind == long.class || kind == Long.class) return number.longValue();
                if (kind == double.class || kind == Double.class) return number.doubleValue();
                if (kind == float.class || kind == Float.class) return number.floatValue();
                if (kind == BigDecimal.class) return number;
                if (kind == short.class || kind == Short.class) return number.shortValue();
                if (kind == byte.class || kind == Byte.class) return number.byteValue();
                if (kind == java.util.Date.class) return new java.util.Date((long) (number.doubleValue() * 1000));
            }
            if (value instanceof List && kind.isArray()) {
                List<?> list = (List<?>) value;
                Object array = Array.newInstance(kind.getComponentType(), list.size());
                for (int i = 0; i < list.size(); i++) Array.set(array, i, as(list.get(i), kind.getComponentType()));
                return array;
            }
            if (!(value instanceof Map)) throw new IllegalArgumentException("Cannot make a " + kind.getName() + " of " + value);
            if (kind.getSuperclass() != null && kind.getSuperclass().getName().equals("java.lang.Record")) return record((Map<?, ?>) value, kind);
            Constructor<?> constructor = kind.getDeclaredConstructor();
            constructor.setAccessible(true);
            Object bean = constructor.newInstance();
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) set(bean, (String) entry.getKey(), entry.getValue());
            return bean;
        }

        /** A record of the members that its components name; by reflection, since older JDKs have none. */
        private static Object record(Map<?, ?> value, Class<?> kind) throws ReflectiveOperationException {
            List<Class<?>> types = new ArrayList<>();
            List<Object> members = new ArrayList<>();
            for (Field field : kind.getDeclaredFields()) {
                if (Modifier.isStatic(field.getModifiers())) continue;
                Object given = value.get(field.getName());
                // What is missing is null, or a primitive's zero.
                if (given == null && field.getType().isPrimitive()) given = Array.get(Array.newInstance(field.getType(), 1), 0);
                else given = as(given, field.getGenericType());
                types.add(field.getType());
                members.add(given);
            }
            Constructor<?> constructor = kind.getDeclaredConstructor(types.toArray(new Class<?>[0]));
            constructor.setAccessible(true);
            return constructor.newInstance(members.toArray());
        }

        /** Give a bean one member; names are compared as people read them, and what it has no place for is left out. */
        private static void set(Object bean, String name, Object value) throws ReflectiveOperationException {
            String wanted = name.replace("-", "");
            for (Method method : bean.getClass().getMethods()) {
                if (method.getParameterCount() == 1 && method.getName().equalsIgnoreCase("set" + wanted)) {
                    method.invoke(bean, as(value, method.getGenericParameterTypes()[0]));
                    return;
                }
            }
            for (Field field : bean.getClass().getFields()) {
                if (field.getName().equalsIgnoreCase(wanted) && !Modifier.isFinal(field.getModifiers())) {
                    field.set(bean, as(value, field.getGenericType()));
                    return;
                }
            }
        }

        static byte[] write(Object value) {
            StringBuilder out = new StringBuilder();
            write(value, out, 0);
            return out.toString().getBytes(StandardCharsets.UTF_8);
        }

        private static void write(Object value, StringBuilder out, int depth) {
            if (depth > 200) throw new IllegalArgumentException("The answer is nested too deeply, or holds itself");
            if (value == null || value instanceof Boolean || value instanceof Number) {
                out.append(value);
            } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum) {
                quote(value.toString(), out);
            } else if (value instanceof byte[]) {
                quote(Base64.getEncoder().encodeToString((byte[]) value), out);
            } else if (value instanceof ByteBuffer) {
                byte[] bytes = new byte[((ByteBuffer) value).remaining()];
                ((ByteBuffer) value).duplicate().get(bytes);
                quote(Base64.getEncoder().encodeToString(bytes), out);
            } else if (value instanceof Optional) {
                write(((Optional<?>) value).orElse(null), out, depth + 1);
            } else if (value instanceof Map) {
                members(((Map<?, ?>) value), out, depth);
            } else if (value instanceof Iterable) {
                char before = '[';
                for (Object one : (Iterable<?>) value) {
                    out.append(before);
                    write(one, out, depth + 1);
                    before = ',';
                }
                out.append(before == '[' ? "[]" : "]");
            } else if (value.getClass().isArray()) {
                List<Object> list = new ArrayList<>();
                for (int i = 0; i < Array.getLength(value); i++) list.add(Array.get(value, i));
                write(list, out, depth + 1);
            } else {
                members(bean(value), out, depth);
            }
        }

        private static void members(Map<?, ?> map, StringBuilder out, int depth) {
            char before = '{';
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                out.append(before);
                quote(String.valueOf(entry.getKey()), out);
                out.append(':');
                write(entry.getValue(), out, depth + 1);
                before = ',';
            }
            out.append(before == '{' ? "{}" : "}");
        }

        /** A bean's getters, records' accessors and public fields. */
        private static Map<String, Object> bean(Object value) {
            Map<String, Object> members = new TreeMap<>();
            boolean record = value.getClass().getSuperclass() != null && value.getClass().getSuperclass().getName().equals("java.lang.Record");
            try {
                for (Method method : value.getClass().getMethods()) {
                    if (method.getParameterCount() > 0 || method.getDeclaringClass() == Object.class || Modifier.isStatic(method.getModifiers())) continue;
                    String name = method.getName();
                    if (name.length() > 3 && name.startsWith("get")) name = name.substring(3);
                    else if (name.length() > 2 && name.startsWith("is") && method.getReturnType() == boolean.class) name = name.substring(2);
                    else if (!record || name.equals("toString") || name.equals("hashCode")) continue;
                    method.setAccessible(true);
                    Object member = method.invoke(value);
                    if (member != null) members.put(Character.toLowerCase(name.charAt(0)) + name.substring(1), member);
                }
                for (Field field : value.getClass().getFields()) {
                    if (!Modifier.isStatic(field.getModifiers())) members.putIfAbsent(field.getName(), field.get(value));
                }
            } catch (ReflectiveOperationException error) {
                throw new IllegalArgumentException("Cannot write a " + value.getClass().getName(), error);
            }
            return members;
        }

        private static void quote(String text, StringBuilder out) {
            out.append('"');
            for (int i = 0; i < text.length(); i++) {
                char c = text.charAt(i);
                if (c == '"' || c == '\\') out.append('\\').append(c);
                else if (c < 0x20) out.append(String.format("\\u%04x", (int) c));
                else out.append(c);
            }
            out.append('"');
        }
    }
}
