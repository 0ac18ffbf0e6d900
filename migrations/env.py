"""Alembic's way in: whoever runs it hands over a connection, and there is no file of its own."""

from alembic import context

from approval.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
