package bulk

import (
	"testing"
)

// TestChooseBlockBytes checks that blocks are small only if there are few keys and all their rows are in memory.
func TestChooseBlockBytes(t *testing.T) {
	p := (&splitter{SplitOptions: SplitOptions{Memory: 64 << 20}}).newPartition(0)
	for i, want := range []int64{64 << 10, 2 * 64 << 10} {
		p.numberOf([]byte{byte(i)})
		if n := p.chooseBlockBytes(); n != want {
			t.Errorf("%d keys: blocks of %d bytes, want %d", i+1, n, want)
		}
	}
	for i := range 1000 {
		p.numberOf([]byte{byte(i), byte(i >> 8)})
	}
	if n := p.chooseBlockBytes(); n > 4<<20 {
		t.Errorf("1,000 keys: blocks of %d bytes, which is more than a sixteenth of the memory", n)
	}
}

// TestPlainName checks that null and an empty text have different names, and that names have only the quotes that partd
// split uses.
func TestPlainName(t *testing.T) {
	empty, text, space := "", `a,"b`, " x"
	for want, texts := range map[string][]*string{
		"": {&empty}, `a,"b`: {&text}, ",": {nil, nil}, `,""`: {nil, &empty}, `"",`: {&empty, nil}, `"",""`: {&empty, &empty}, `"a,""b",`: {&text, nil}, ` x, x`: {&space, &space},
	} {
		if got := plainName(texts); got != want {
			t.Errorf("plainName = %q, want %q", got, want)
		}
	}
}
