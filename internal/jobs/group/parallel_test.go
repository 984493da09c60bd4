package group

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
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
