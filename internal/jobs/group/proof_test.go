package group

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/output"
)

// TestProofOfGroups checks that filling a row returns an error if a group lacks a value for a quantile or a mode,
// and that verify returns an error if the groups aggregate other records or keys than were read.
func TestProofOfGroups(t *testing.T) {
	specs, err := aggregate.Parse("median(x),mode(x)")
	if err != nil {
		t.Fatal(err)
	}
	columns := []aggregate.Columns{{First: 0, Second: -1}, {First: 0, Second: -1}}
	tables, err := hashagg.New(t.Context(), hashagg.Options{Memory: 1 << 20, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	g := &groupEngine{
		job: &filejobs.Job{}, specs: specs, specColumns: columns, keyCount: 1, quantileColumns: []int{0}, modeColumns: []int{0}, numbers: tables,
		program: aggregate.NewProgram(specs, columns),
	}
	for _, lossySpec := range []int{0, 1, -1} { // index of the spec that lacks a value, or -1
		r := &groupRow{
			g: g, complete: true, words: make([]uint64, g.program.Words), row: make([]output.Value, 3),
			modes: make([]countedColumn, 1), quantiles: make([]quantile, 2),
		}
		c, err := newNumberColumn(r, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		r.numbers = []*numberColumn{c}
		numbers := g.program.NewValues(1)
		for i := range 3 {
			values := [][]byte{[]byte("7")}
			g.program.Parse(numbers, 0, values)
			g.program.Add([][]uint64{r.words}, numbers, 0)
			if lossySpec != 0 || i > 0 {
				if err := c.addFloats(binary.LittleEndian.AppendUint64(nil, math.Float64bits(7))); err != nil {
					t.Fatal(err)
				}
			}
			if lossySpec != 1 || i > 0 {
				if err := r.addModeValue([]byte{0, 0, 0, '7'}, i > 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(r.findQuantiles(), r.fill()); (err != nil) != (lossySpec >= 0) {
			t.Errorf("with a missing value for spec %d, the row's error is %v", lossySpec, err)
		}
	}
	table, err := tables.Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "b"} {
		if _, _, err := table.Get([]byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	g.job.Tally.Records = 3
	a, b := tables.Hash([]byte("a")), tables.Hash([]byte("b"))
	for keySum, isCorrect := range map[uint64]bool{a + 2*b: true, 2*a + b: false} {
		if err := g.verify(groupTally{2, 3, keySum}); (err == nil) != isCorrect {
			t.Errorf("verify = %v, although the sum of the key hashes is correct: %v", err, isCorrect)
		}
	}
	if g.verify(groupTally{2, 2, a + b}) == nil {
		t.Error("verify returned no error although the groups lack a record")
	}
}
