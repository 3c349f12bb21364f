"""The look that every page shares: ``assets/base.html.jinja``, its style and scripts, numbers as text. All values are escaped."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from typing import Any

import jinja2


def render(name: str, /, **values: Any) -> str:
    """A page's text: the template ``name`` of ``assets/`` with every asset written into it and ``values`` escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("drifting_vla_jax.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "signed": _signed,
        "seconds": _seconds,
        "number": _number,
        "short": _short,
    }
    return environment.get_template(name).render(
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        assets={
            path.name: path.read_text() for path in (resources.files("drifting_vla_jax.report") / "assets").iterdir()
        },
        **values,
    )


def percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


def _signed(rate: float) -> str:
    return f"{100 * rate:+.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _short(value: float) -> str:
    """Four digits; what is smaller than 1e-6 of anything is rounding."""
    return "-" if value != value else f"{value:.4g}" if abs(value) >= 1e-6 else "0"


def _seconds(value: float) -> str:
    minutes, seconds = divmod(value, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds:.0f} s" if minutes else f"{seconds:.1f} s"
