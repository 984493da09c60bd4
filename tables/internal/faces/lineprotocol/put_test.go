package lineprotocol

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestNullsReserved checks that memory for nulls of a fixed size is reserved before they are made.
func TestNullsReserved(t *testing.T) {
	var reserved int64
	errFull := errors.New("full")
	limit := int64(1 << 40)
	p := must.Get(Parse([]byte(strings.Repeat("m v=1 1\n", 1000)), "", time.Now(), func(n int64) error {
		reserved = n
		if n > limit {
			return errFull
		}
		return nil
	}))(t)
	vector := arrow.FixedSizeListOf(1536, arrow.PrimitiveTypes.Float32)
	structs := arrow.StructOf(arrow.Field{Name: "b", Type: &arrow.FixedSizeBinaryType{ByteWidth: 1000}}, arrow.Field{Name: "v", Type: vector})
	schema := arrow.NewSchema([]arrow.Field{{Name: "list", Type: vector, Nullable: true}, {Name: "struct", Type: structs, Nullable: true}}, nil)
	before := reserved
	batches, err := p.batches([]*arrow.Schema{schema})
	if err != nil || batches[0].NumRows() != 1000 || batches[0].NumCols() != 4 {
		t.Fatalf("got %v, %v", batches, err)
	}
	if extra, want := reserved-before, int64(1000*(4*1536+1000+4*1536)); extra < want || extra > 2*want {
		t.Errorf("reserved %d bytes more, want at least %d and at most twice as many", extra, want)
	}
	limit = before
	must.Fail(t, must.Err(p.batches([]*arrow.Schema{schema})), errFull, "with a full server")
	huge := arrow.FixedSizeListOf(1<<30, arrow.FixedSizeListOf(1<<30, arrow.FixedSizeListOf(1<<30, vector)))
	if size := nullSize(huge); size != maxNulls+1 {
		t.Errorf("nullSize(%v) = %d, want %d", huge, size, maxNulls+1)
	}
}
