package arrowsafe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// node returns a node of a Parquet schema in Thrift's compact form.
func node(name string, children int) []byte {
	b := append(binary.AppendUvarint([]byte{4<<4 | text}, uint64(len(name))), name...)
	if children != 0 {
		b = binary.AppendVarint(append(b, 1<<4|int32s), int64(children))
	}
	return append(b, 0)
}

func parquetFile(nodes ...[]byte) *bytes.Reader {
	b := binary.AppendUvarint([]byte("PAR1\x15\x02\x19\xfc"), uint64(len(nodes)))
	b = append(append(b, slices.Concat(nodes...)...), "\x16\x00\x19\x0c\x00"...)
	return bytes.NewReader(append(binary.LittleEndian.AppendUint32(b, uint32(len(b)-4)), "PAR1"...))
}

// TestFooter checks that a schema is refused if it is malformed, has too many levels for arrow-go's
// recursion, or would take much more memory than its own size.
func TestFooter(t *testing.T) {
	chain := func(levels int) (nodes [][]byte) {
		return append(slices.Repeat([][]byte{node("a", 1)}, levels), node("a", 0))
	}
	wide := func(name string, columns int) [][]byte {
		return append([][]byte{node(name, columns)}, slices.Repeat([][]byte{node("a", 0)}, columns)...)
	}
	for name, c := range map[string]struct {
		nodes [][]byte
		want  string // "" if the schema is valid
	}{
		"100 lists":         {chain(200), ""},
		"many columns":      {wide("a", 100_000), ""},
		"many levels":       {chain(maxLevels + 1), "more than 256 levels at node 257 of 258"},
		"100,000 levels":    {chain(100_000), "more than 256 levels"},
		"many nodes":        {wide("a", maxNodes), "has 131073 nodes; the limit is 131072"},
		"long paths":        {append([][]byte{node("", 1)}, wide(strings.Repeat("a", 1<<16), 2000)...), "paths of its columns"},
		"missing children":  {[][]byte{node("a", 1<<31-1), node("a", 0)}, errFooter.Error()},
		"too many children": {[][]byte{node("a", 2), node("a", 2), node("a", 0), node("a", 0)}, errFooter.Error()},
		"negative children": {[][]byte{node("a", -1), node("a", 0)}, errFooter.Error()},
		"truncated node":    {[][]byte{node("a", 1), []byte("\x48\x7f")}, errFooter.Error()},
	} {
		if _, _, err := Footer(parquetFile(c.nodes...)); c.want == "" && err != nil || !strings.Contains(fmt.Sprint(err), c.want) && c.want != "" {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
	if _, _, err := Footer(bytes.NewReader(slices.Concat(make([]byte, maxFooter+8), []byte{1, 0, 0, 4}, []byte("PAR1")))); err == nil || !strings.Contains(err.Error(), "footer has 67108865 bytes") {
		t.Errorf("footer of 64 MiB + 1: got error %v, want an error about its size", err)
	}
}
