"""``copystream completion``: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")

_HELP = """\
Print the completion script of a shell.

\b
bash: eval "$(copystream completion bash)"       in ~/.bashrc
zsh:  eval "$(copystream completion zsh)"        in ~/.zshrc
fish: copystream completion fish | source        in ~/.config/fish/config.fish
"""


@click.command("completion", help=_HELP, short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    root = ctx.find_root()
    generator = get_completion_class(shell)
    if generator is None:
        raise click.UsageError(f"click cannot complete for {shell}")
    program = root.info_name or "copystream"
    click.echo(generator(root.command, {}, program, f"_{program.upper()}_COMPLETE").source())
