#!/usr/bin/env bash
# All that needs a GPU, in under ten minutes: Triton's tests on the real thing, then the speed benchmark at every size,
# each kernel beside its floor, waits for the device, TF32 and bfloat16 products; then a table.
#
#   benchmarks/speed/gpu.sh [FOLDER]            into FOLDER, by default $OUT, else gpu-results
#   benchmarks/speed/gpu.sh [FOLDER] --dry-run  such calls on a CPU, at demo size
#
# Python is $PYTHON, else .venv/bin/python, else a fresh .venv. It needs torch with CUDA, triton and pytest.
# Each part has its own time limit; one that fails or is cut leaves its log and does not stop the others.
set -uo pipefail

folder="" device=cuda sizes="baby sports electronics" tests="tests/ops/test_triton_kernels.py tests/ops/test_triton_step.py" few=() part=all
for argument in "$@"; do
    case $argument in
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --dry-run) device=cpu sizes=demo tests=tests/ops/test_backend.py few=(--steps 5 --warm-up 5) part=step ;;
        -*) echo "gpu.sh: got $argument, expected a folder, --dry-run or --help" >&2; exit 2 ;;
        *) folder=$argument ;;
    esac
done
folder=$(realpath -m "${folder:-${OUT:-gpu-results}}")
cd "$(dirname "$0")/../.."
export OMP_WAIT_POLICY=passive PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
unset TRITON_INTERPRET

if [ -n "${PYTHON:-}" ]; then python=$PYTHON; else python=.venv/bin/python; fi
if [ -z "${PYTHON:-}" ] && [ ! -x $python ]; then
    python3 -m venv .venv && $python -m pip install --quiet --constraint constraints.txt --editable . pytest triton
fi
if [ $device = cuda ] && ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2> /dev/null; then
    echo "gpu.sh: $python sees no GPU, expected one that PyTorch can use (--dry-run needs none)" >&2
    exit 2
fi
mkdir -p "$folder" || exit 2

part() { # name, seconds, command
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    timeout --kill-after 10 "$limit" "$@" > "$folder/$name.log" 2>&1
    local code=$?
    [ $code -eq 124 ] && code="cut after $limit s"
    printf '%-18s %4d s  %s\n' "$name" $((SECONDS - start)) "${code/#0/ended}" | tee -a "$folder/parts.txt"
}

: > "$folder/parts.txt"
"$python" -c "import xdist" 2> /dev/null && tests="-n 4 $tests"  # a kernel is compiled for each type and dimension
part tests 150 "$python" -m pytest -q -p no:cacheprovider $tests
declare -A run=([demo]=200 [baby]=60 [sports]=80 [electronics]=130) own=([demo]=100 [baby]=35 [sports]=35 [electronics]=70)
for size in $sizes; do
    part "gpu-$size" "${own[$size]}" "$python" benchmarks/speed/gpu.py --size "$size" --device $device "${few[@]}" --json "$folder/gpu-$size.json"
    part "run-$size" "${run[$size]}" "$python" benchmarks/speed/run.py --size "$size" --device $device --part $part --steps 20 --budget 20 --json "$folder/run-$size.json"
done
{
    echo "tests: $(tail -n 1 "$folder/tests.log")"
    echo
    "$python" benchmarks/speed/gpu.py --table "$folder"
} | tee "$folder/table.md"
