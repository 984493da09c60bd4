package filejobs

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// Rows of a batch come whole and in order, however many: it holds no more of them than it may.
func TestRowBatchHandsOver(t *testing.T) {
	b := &rowBatch{limit: 100, made: make(chan bool, 1), taken: make(chan struct{})}
	var want, got []byte
	failure := errors.New("a row")
	var making sync.WaitGroup
	making.Go(func() {
		for i := range 1000 {
			row := bytes.Repeat([]byte(fmt.Sprint(i, ";")), 1+i%50)
			want = append(want, row...)
			if n, err := b.Write(row); n != len(row) || err != nil {
				t.Errorf("%d of %d bytes, %v", n, len(row), err)
			}
		}
		b.err = failure
		b.made <- true
	})
	var last error
	b.write(func(rows []byte, err error) {
		if len(rows) > b.limit || last != nil {
			t.Errorf("%d bytes of rows, after %v", len(rows), last)
		}
		got, last = append(got, rows...), err
	})
	making.Wait()
	if !bytes.Equal(got, want) || !errors.Is(last, failure) {
		t.Errorf("%d bytes, want %d; %v", len(got), len(want), last)
	}
}
