package formats

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// TestFarMoreValues checks that IsolatedReader refuses a file that contains far more values than bytes.
func TestFarMoreValues(t *testing.T) {
	defer func(old int64) { freeValues = old }(freeValues)
	freeValues = 0
	var b strings.Builder
	b.WriteString(`{"c":1`)
	for i := range 4000 {
		fmt.Fprintf(&b, `,"c%d":1`, i)
	}
	in := fileOf(t, "a.jsonl", b.String()+"}\n"+strings.Repeat("{}\n", 5000))
	r := must.Get(NewIsolatedReader(4<<30).Read(t.Context(), in))(t) // the race detector multiplies the memory of the process
	defer r.Release()
	for r.Next() {
	}
	if err := r.Err(); !errors.Is(err, partd.ErrTooLarge) || !strings.Contains(err.Error(), "far more values than bytes") {
		t.Errorf("reading far more values than bytes: got %v, want ErrTooLarge", err)
	}
}

func TestMain(m *testing.M) {
	worker.Main()
	os.Exit(m.Run())
}
