class ToPeople:
    """Everything except the goods is in the database `people`."""

    def db_for_read(self, model, **hints):
        return "people"

    def db_for_write(self, model, **hints):
        return "people"
