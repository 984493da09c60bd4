package schema

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Two texts that halve a letter are not UTF-8, though they are so together; what is below a
// null, and texts of which a slice has a part, are of no account.
func TestTextsAtOnce(t *testing.T) {
	for _, c := range []struct {
		texts []string
		good  bool
	}{{nil, true}, {[]string{""}, true}, {[]string{"é", "", "ß"}, true}, {[]string{"a\xc3", "\xa9b"}, false}, {[]string{"\xc3"}, false}} {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		b.Append("before")
		b.AppendValues(c.texts, nil)
		b.Append("\xff")
		all := b.NewArray()
		a := array.NewSlice(all, 1, int64(1+len(c.texts)))
		if err := CheckTexts(a); (err == nil) != c.good {
			t.Errorf("%q: %v", c.texts, err)
		}
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.AppendValues([]string{"a", "\xff"}, []bool{true, true})
	b.SetNull(1)
	if err := CheckTexts(b.NewArray()); err != nil {
		t.Error(err)
	}
}
