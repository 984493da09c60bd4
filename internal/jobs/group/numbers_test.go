package group

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

// TestNumberColumnKeepsParts checks that a number column does not change the parts that it is given, because their
// memory belongs to the sorter. (An integer that no float can represent once caused such a change.)
func TestNumberColumnKeepsParts(t *testing.T) {
	temp, err := tempdir.New([]string{t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer temp.Close()
	c, err := newNumberColumn(&groupRow{g: &groupEngine{job: &filejobs.Job{Ctx: t.Context(), TempSet: temp}}}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	const wide = "9007199254740993"
	part := []byte(wide)
	if err := c.addWide(part); err != nil {
		t.Fatal(err)
	}
	if err := c.addFloats(binary.LittleEndian.AppendUint64(nil, math.Float64bits(7))); err != nil {
		t.Fatal(err)
	}
	if string(part) != wide {
		t.Errorf("the part %s was changed to %s", wide, part)
	}
	if err := c.writer.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNumberOfZero checks that -0 becomes 0, so that a median does not depend on whether the
// numbers fit in memory.
func TestNumberOfZero(t *testing.T) {
	w := &groupWorker{lists: numberLists{numbers: make([]float64, minListCap)}}
	var list uint64
	if err := w.addNumber(0, &list, nil, aggregate.Float(math.Copysign(0, -1))); err != nil {
		t.Fatal(err)
	}
	if got := w.lists.get(list); len(got) != 1 || math.Signbit(got[0]) {
		t.Errorf("after adding -0, the list has %v, want 0", got)
	}
}
