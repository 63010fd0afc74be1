"""What a plan compares."""

from runner.config.schema.plan import USUAL_RECIPES, Plan


def recipes_of(plan: Plan, published_as: str | None) -> list[str]:
    """Labels of the formats: those that are named, else the model's own and the usual ones.

    Args:
        plan: Its settings.
        published_as: Label of the format in which the model is published, if not in 16 bits.
    """
    own = [published_as] if published_as else []
    return plan.recipes or [*own, *(label for label in USUAL_RECIPES if label not in own)]
