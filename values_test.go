package partd_test

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestValuesOfBrokenScan checks that Values does not mistake a broken connection for the end of a value or
// of the scan.
func TestValuesOfBrokenScan(t *testing.T) {
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, fmt.Errorf("the connection broke: %w", io.EOF), nil} {
		for _, last := range []bool{true, false} {
			if broken == nil && last {
				continue // a scan that ends normally
			}
			next, stop := iter.Pull2(partd.Values(func(yield func(partd.Chunk, error) bool) {
				if yield(partd.Chunk{Key: "k", Data: []byte("value"), Last: last}, nil) && broken != nil {
					yield(partd.Chunk{}, broken)
				}
			}))
			defer stop()
			v, err, _ := next()
			if err != nil || v.Key != "k" {
				t.Fatalf("Values yields %v with the key %q, want k", err, v.Key)
			}
			if n, err := v.Read(make([]byte, 2)); n != 2 || err != nil {
				t.Fatalf("Read = %d, %v, want 2", n, err)
			}
			_, err, ok := next()
			if !ok || err == nil || err == io.EOF || err == io.ErrUnexpectedEOF || broken != nil && !errors.Is(err, broken) {
				t.Errorf("after the error %v (last chunk %v), Values yields %v, want the error and not the end", broken, last, err)
			}
			if _, err, ok := next(); ok {
				t.Errorf("after the error %v (last chunk %v), Values continues with %v", broken, last, err)
			}
		}
	}
}

// TestValuesEndWithTheirKey checks that a value cannot be read after the scan has reached another key or its end, and
// that a zero Value does not panic.
func TestValuesEndWithTheirKey(t *testing.T) {
	values := []partd.Value{{}}
	for v, err := range partd.Values(func(yield func(partd.Chunk, error) bool) {
		_ = yield(partd.Chunk{Key: "a", Data: []byte("1")}, nil) && yield(partd.Chunk{Key: "a", Data: []byte("2"), Last: true}, nil) &&
			yield(partd.Chunk{Key: "b", Data: []byte("3"), Last: true}, nil)
	}) {
		must.Do(t, err)
		values = append(values, v)
	}
	if len(values) != 3 {
		t.Fatalf("Values yields %d values, want 2", len(values)-1)
	}
	for _, v := range values {
		if n, err := v.Read(make([]byte, 8)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("Read of key %q after its scan = %d, %v, want an error", v.Key, n, err)
		}
	}
}
