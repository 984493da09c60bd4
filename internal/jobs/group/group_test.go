package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestRowBatch checks that a rowBatch passes on all its rows in order, in portions of limited size.
func TestRowBatch(t *testing.T) {
	b := &rowBatch{limit: 100, ready: make(chan bool, 1), written: make(chan struct{})}
	var want, got []byte
	failure := errors.New("a row failed")
	var building sync.WaitGroup
	building.Go(func() {
		for i := range 1000 {
			row := bytes.Repeat([]byte(fmt.Sprint(i, ";")), 1+i%50)
			want = append(want, row...)
			if n, err := b.Write(row); n != len(row) || err != nil {
				t.Errorf("Write of %d bytes = %d, %v, want all bytes", len(row), n, err)
			}
		}
		b.err = failure
		b.ready <- true
	})
	var last error
	b.write(func(rows []byte, err error) {
		if len(rows) > b.limit || last != nil {
			t.Errorf("handle received %d bytes of rows after the error %v, want at most 100", len(rows), last)
		}
		got, last = append(got, rows...), err
	})
	building.Wait()
	if !bytes.Equal(got, want) || !errors.Is(last, failure) {
		t.Errorf("handle received %d bytes in total, want %d; the last error is %v", len(got), len(want), last)
	}
}

// TestNumberColumnKeepsParts checks that a number column does not change the parts that it is given, because their
// memory belongs to the sorter. (An integer that no float can represent once caused such a change.)
func TestNumberColumnKeepsParts(t *testing.T) {
	temp := must.Get(tempdir.New([]string{t.TempDir()}, nil))(t)
	defer temp.Close()
	c := must.Get(newNumberColumn(&rowBuilder{engine: &engine{job: &filejobs.Job{Ctx: t.Context(), TempSet: temp}}}, 1<<20))(t)
	defer c.close()
	const wide = "9007199254740993"
	part := []byte(wide)
	must.Do(t, c.addWide(part))
	must.Do(t, c.addFloats(binary.LittleEndian.AppendUint64(nil, math.Float64bits(7))))
	if string(part) != wide {
		t.Errorf("the part %s was changed to %s", wide, part)
	}
	must.Do(t, c.writer.Close())
}

// TestNumberOfZero checks that -0 becomes 0, so that a median does not depend on whether the
// numbers fit in memory.
func TestNumberOfZero(t *testing.T) {
	w := &worker{lists: numberLists{numbers: make([]float64, minListCap)}}
	var list uint64
	must.Do(t, w.addNumber(0, &list, nil, aggregate.Float(math.Copysign(0, -1))))
	if got := w.lists.get(list); len(got) != 1 || math.Signbit(got[0]) {
		t.Errorf("after adding -0, the list has %v, want 0", got)
	}
}

// TestProofOfGroups checks that filling a row returns an error if a group lacks a value for a quantile or a mode,
// and that verify returns an error if the groups aggregate other records or keys than were read.
func TestProofOfGroups(t *testing.T) {
	specs := must.Get(aggregate.Parse("median(x),mode(x)"))(t)
	columns := []aggregate.Columns{{First: 0, Second: -1}, {First: 0, Second: -1}}
	tables := must.Get(hashagg.New(t.Context(), hashagg.Options{Memory: 1 << 20, Threads: 1}))(t)
	defer tables.Close()
	g := &engine{
		job: &filejobs.Job{}, specs: specs, specColumns: columns, keyCount: 1, quantileColumns: []int{0}, modeColumns: []int{0}, numbers: tables,
		program: aggregate.NewProgram(specs, columns),
	}
	for _, lossySpec := range []int{0, 1, -1} { // index of the spec that lacks a value, or -1
		r := &rowBuilder{
			engine: g, complete: true, words: make([]uint64, g.program.Words), row: make([]output.Value, 3),
			modes: make([]modeFinder, 1), quantiles: make([]quantile, 2),
		}
		c := must.Get(newNumberColumn(r, 1<<20))(t)
		defer c.close()
		r.numbers = []*numberColumn{c}
		numbers := g.program.NewValues(1)
		for i := range 3 {
			values := [][]byte{[]byte("7")}
			g.program.Parse(numbers, 0, values)
			g.program.Add([][]uint64{r.words}, numbers, 0)
			if lossySpec != 0 || i > 0 {
				must.Do(t, c.addFloats(binary.LittleEndian.AppendUint64(nil, math.Float64bits(7))))
			}
			if lossySpec != 1 || i > 0 {
				must.Do(t, r.addModeValue([]byte{0, 0, 0, '7'}, i > 0))
			}
		}
		if err := errors.Join(r.findQuantiles(), r.fill()); (err != nil) != (lossySpec >= 0) {
			t.Errorf("with a missing value for spec %d, the row's error is %v", lossySpec, err)
		}
	}
	table := must.Get(tables.Table())(t)
	for _, key := range []string{"a", "b", "b"} {
		if _, _, err := table.Get([]byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	must.Do(t, table.Close())
	g.job.Tally.Records = 3
	a, b := tables.Hash([]byte("a")), tables.Hash([]byte("b"))
	for keySum, isCorrect := range map[uint64]bool{a + 2*b: true, 2*a + b: false} {
		if err := g.verify(hashagg.Totals{Groups: 2, Records: 3, KeySum: keySum}); (err == nil) != isCorrect {
			t.Errorf("verify = %v, although the sum of the key hashes is correct: %v", err, isCorrect)
		}
	}
	if g.verify(hashagg.Totals{Groups: 2, Records: 2, KeySum: a + b}) == nil {
		t.Error("verify returned no error although the groups lack a record")
	}
}

// spoolTwice writes two texts to a spool in turn, and reports whether it reads them back unchanged.
func spoolTwice(t *testing.T, fsys vfs.FS) (equal bool, err error) {
	t.Helper()
	temp := must.Get(tempdir.New([]string{t.TempDir()}, fsys))(t)
	s := &spool{temp: temp, limit: 1000}
	defer func() { must.Do(t, errors.Join(s.close(), temp.Close())) }()
	equal = true
	for _, n := range []int{5000, 300} {
		var want, got []byte
		for i := range n {
			word := fmt.Appendf(nil, "%d;", i*i)
			want = append(want, word...)
			s.buf = append(s.buf, word...)
			must.Do(t, s.moveToDisk())
		}
		err := s.pieces(func(p []byte) error {
			if len(p) == 0 {
				t.Error("pieces passed an empty piece")
			}
			got = append(got, p...)
			return nil
		})
		if err != nil {
			return false, err
		}
		equal = equal && bytes.Equal(got, want)
		s.reset()
	}
	return equal, nil
}

// TestSpoolBitRot checks that a flipped bit in a spilled list causes an error.
func TestSpoolBitRot(t *testing.T) {
	fsys := &vfstest.Flip{}
	if equal, err := spoolTwice(t, fsys); err != nil || !equal {
		t.Fatalf("without a flipped bit: text unchanged: %v, error: %v", equal, err)
	}
	if fsys.Calls < 30 {
		t.Fatalf("the spool made only %d reads, want at least 30", fsys.Calls)
	}
	for read := 1; read <= fsys.Calls; read++ {
		var corrupt *partd.CorruptError
		if equal, err := spoolTwice(t, &vfstest.Flip{Target: read}); !errors.As(err, &corrupt) {
			t.Errorf("with a flipped bit in read %d of %d: got %v (text unchanged: %v), want a CorruptError", read, fsys.Calls, err, equal)
		}
	}
}
