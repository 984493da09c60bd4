package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestNoMergeOfCompressedTables checks that segments of full tables are not merged even if they compress well.
func TestNoMergeOfCompressedTables(t *testing.T) {
	for _, c := range []Compression{S2, Zstd} {
		for _, keys := range []int{1, 1000} {
			mem := vfstest.NewMem()
			s, err := open("/s", &Options{Compression: c}, hooks{fs: mem, tableBytes: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			for i := range 2500 {
				v := bytes.Repeat(fmt.Append(nil, rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64()), 50)
				if err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i % keys), Value: v}); err != nil {
					t.Fatal(err)
				}
			}
			waitMerged(t, s)
			if n := s.SegmentCount(); n < minMerge {
				t.Errorf("%v, %d keys: the store has %d segments, want at least %d", c, keys, n, minMerge)
			}
			if _, err := mem.Info("/s/seg-00000002"); !errors.Is(err, os.ErrNotExist) || s.Close() != nil {
				t.Errorf("%v, %d keys: a merge created a second file, or Close failed: %v", c, keys, err)
			}
		}
	}
}
