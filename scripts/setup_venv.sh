# Sourced by the other scripts: makes .venv once, installs this checkout with the extras named
# in $1 (again only when pyproject.toml or setup.py has changed), and activates it.
python="${PYTHON:-python3}"
if [[ ! -x .venv/bin/python ]]; then
    "$python" -m venv .venv
fi
source .venv/bin/activate
stamp=".venv/.installed-$1"
if [[ ! -f "$stamp" || pyproject.toml -nt "$stamp" || setup.py -nt "$stamp" ]]; then
    echo "Installing glc_jax[$1] into .venv ..."
    python -m pip install --quiet --upgrade pip
    python -m pip install --quiet --editable ".[$1]"
    touch "$stamp"
fi
