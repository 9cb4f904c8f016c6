"""Where everything is kept: revisioned resources and tables, one database for each service."""

from cloudlet.store.api import Change, Compacted, Conflict, Cursor, Database, Record, Resources, Store, Tx

__all__ = ["Change", "Compacted", "Conflict", "Cursor", "Database", "Record", "Resources", "Store", "Tx"]
