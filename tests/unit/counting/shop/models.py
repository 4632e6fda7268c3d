"""Models of SQLAlchemy."""

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list["Line"]] = relationship(order_by="Line.id")


class Line(Base):
    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


def totals(session: Session) -> list[int]:
    """Load the lines of each order by a statement of their own."""
    orders = session.scalars(select(Order).order_by(Order.id)).all()  # orders
    return [
        len(order.lines)  # lines
        for order in orders
    ]
