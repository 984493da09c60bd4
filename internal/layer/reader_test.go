package layer

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/go-partd/partd"
)

// TestBrokenConnection checks that the reader does not mistake a broken connection to the
// underlying store for the end of a value or of the scan.
func TestBrokenConnection(t *testing.T) {
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, fmt.Errorf("the connection broke: %w", io.EOF), nil} {
		for _, last := range []bool{true, false} {
			if broken == nil && last {
				continue // a scan that ends normally
			}
			r, stop := NewReader(func(yield func(partd.Chunk, error) bool) {
				if yield(partd.Chunk{Key: "k", Data: []byte("value"), Last: last}, nil) && broken != nil {
					yield(partd.Chunk{}, broken)
				}
			}, "")
			defer stop()
			if err := r.Next(); err != nil || r.Key != "k" {
				t.Fatalf("Next = %v with the key %q, want k", err, r.Key)
			}
			if n, err := r.Read(make([]byte, 2)); n != 2 || err != nil {
				t.Fatalf("Read = %d, %v, want 2", n, err)
			}
			for range 2 {
				if err := r.Next(); err == nil || err == io.EOF || err == io.ErrUnexpectedEOF || broken != nil && !errors.Is(err, broken) {
					t.Errorf("after the error %v (last chunk %v), Next = %v, want the error and not the end", broken, last, err)
				}
			}
			if data, err := r.Data(); len(data) > 0 || err != r.Err {
				t.Errorf("after the error %v (last chunk %v), Data = %q, %v", broken, last, data, err)
			}
		}
	}
}
