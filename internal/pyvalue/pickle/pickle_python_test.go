package pickle

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/pyvalue"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// python is Debian's Python.
const python = "/usr/bin/python3"

// TestAgainstPython exchanges random values with Python. Python pickles each with protocols 4 and 5.
// Go must read the same value from both, and Python must read it back from Go's pickle.
func TestAgainstPython(t *testing.T) {
	if err := exec.Command(python, "-c", "import pickle").Run(); err != nil {
		procs.Skip(t, "this test needs %s: %v", python, err)
	}
	count, seed := 4000, "1"
	if n := os.Getenv("PARTD_PICKLES"); n != "" {
		count, _ = strconv.Atoi(n)
		seed = fmt.Sprint(os.Getpid())
		t.Logf("seed %s", seed)
	}
	cmd := exec.Command(python, "testdata/values.py", seed, fmt.Sprint(count))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in := must.Get(cmd.StdinPipe())(t)
	out := must.Get(cmd.StdoutPipe())(t)
	must.Do(t, cmd.Start())
	failed := compareAll(out, in, count)
	if failed != nil {
		_ = cmd.Process.Kill()
	}
	in.Close()
	if err := cmd.Wait(); err != nil || failed != nil {
		t.Fatalf("the comparison failed: %v (python: %v %s)", failed, err, stderr.String())
	}
}

func compareAll(out io.Reader, in io.Writer, count int) error {
	for n := range count {
		want, err := receive(out)
		if err != nil {
			return fmt.Errorf("value %d: %w", n, err)
		}
		var v any
		for protocol := 4; protocol <= 5; protocol++ {
			data, err := receive(out)
			if err != nil {
				return fmt.Errorf("value %d: %w", n, err)
			}
			if v, err = Decode(data); err != nil {
				return fmt.Errorf("value %d, protocol %d: %w\n%.500q\n%.500s", n, protocol, err, data, want)
			}
			if got := describe(v); got != string(want) {
				return fmt.Errorf("value %d, protocol %d:\n got %.2000s\nwant %.2000s", n, protocol, got, want)
			}
		}
		reply, err := Append(make([]byte, 4), v)
		if err != nil {
			return fmt.Errorf("value %d: %w", n, err)
		}
		le.PutUint32(reply, uint32(len(reply)-4))
		if _, err := in.Write(reply); err != nil {
			return fmt.Errorf("value %d: %w", n, err)
		}
	}
	return nil
}

func receive(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, le.Uint32(head[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// describe returns the same text for a value as testdata/values.py.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "N"
	case bool:
		return map[bool]string{true: "T", false: "F"}[v]
	case int64:
		return "i" + strconv.FormatInt(v, 16)
	case *big.Int:
		return "i" + v.Text(16)
	case float64:
		return fmt.Sprintf("f%016x", math.Float64bits(v))
	case string:
		return "s" + hex.EncodeToString([]byte(v))
	case []byte:
		return "b" + hex.EncodeToString(v)
	case pyvalue.ByteArray:
		return "B" + hex.EncodeToString(v)
	case []any:
		return "[" + strings.Join(describeAll(v), ",") + "]"
	case pyvalue.Tuple:
		return "(" + strings.Join(describeAll(v), ",") + ")"
	case pyvalue.Set:
		return "S" + strings.Join(slices.Sorted(slices.Values(describeAll(v))), ",") + "s"
	case pyvalue.FrozenSet:
		return "Z" + strings.Join(slices.Sorted(slices.Values(describeAll(v))), ",") + "z"
	case pyvalue.Dict:
		texts := make([]string, len(v))
		for i, item := range v {
			texts[i] = describe(item.Key) + ":" + describe(item.Value)
		}
		return "{" + strings.Join(texts, ",") + "}"
	}
	panic(fmt.Sprintf("%T", v))
}

func describeAll(elements []any) []string {
	texts := make([]string, len(elements))
	for i, e := range elements {
		texts[i] = describe(e)
	}
	return texts
}
