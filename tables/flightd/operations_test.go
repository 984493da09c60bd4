package flightd

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// TestResampledRefuses checks that an invalid ticket is refused with InvalidArgument, because it is the client's fault.
func TestResampledRefuses(t *testing.T) {
	_, store, address := serveTest(t, nil)
	rows := tableOf(0, 10)
	in := must.Get(array.NewRecordReader(rows.Schema(), []arrow.RecordBatch{rows}))(t)
	must.Get(store.Bucket("").Table("t").Put(t.Context(), in, tables.PutError, nil))(t)
	for _, fields := range []string{
		`"Rule":"s"`, `"Rule":"s","Functions":["avg"]`, `"Rule":"s","Functions":["ffill","sum"]`, `"Rule":"-1s","Functions":["size"]`, `"Rule":"s","SQL":"SELECT 1"`,
	} {
		ticket := fmt.Sprintf(`{"partd":"resample","Source":{"Name":"t"},"TimeColumn":"at",%s}`, fields)
		if err := readAll(t.Context(), dialTest(t, address), ticket, 0); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a ticket with %s: got %v, want InvalidArgument", fields, err)
		}
	}
}
