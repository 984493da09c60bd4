package filejobs

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/go-partd/partd/internal/tempdir"
)

// TestNumberColumnKeepsParts checks that a number column does not write to the parts of a group, because the sorter
// reuses their blocks. (It once did, after an integer that no float can represent.)
func TestNumberColumnKeepsParts(t *testing.T) {
	temp, err := tempdir.New([]string{t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer temp.Close()
	c, err := newNumberColumn(&groupRow{g: &groupEngine{job: &job{ctx: t.Context(), temp: temp}}}, 1<<20)
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
