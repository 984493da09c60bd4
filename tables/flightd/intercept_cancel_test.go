package flightd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// TestCanceledCall checks that a client can cancel a call by the id that it chose for the call, and that
// no other call is canceled.
func TestCanceledCall(t *testing.T) {
	_, store, address := serveTest(t, nil)
	c := dialTest(t, address)
	const id = "an id of thirty-two bytes, about"
	ctx := metadata.AppendToOutgoingContext(t.Context(), callHeader, id)
	st, _, err := beginPut(ctx, c, `{"name":"t"}`, 1, 10)
	must.Do(t, err)
	cancel := func(id string) bool {
		answer := must.Get(doAction(t.Context(), c, "partd.cancel", fmt.Sprintf(`{"id":%q}`, id)))(t)
		return strings.Contains(answer, "true")
	}
	if cancel(strings.Repeat("x", 32)) {
		t.Error("partd.cancel with an unknown id canceled a call")
	}
	waitFor(t, "partd.cancel did not find the call", func() bool { return cancel(id) })
	start := time.Now()
	if _, err := st.Recv(); status.Code(err) != codes.Canceled || time.Since(start) > 5*time.Second {
		t.Errorf("the canceled call returned %v after %v, want Canceled within 5 s", err, time.Since(start))
	}
	for i, err := range store.Bucket("").Tables(t.Context(), nil) {
		t.Error("the canceled put left a table", i, err)
	}
	if cancel(id) {
		t.Error("partd.cancel canceled the same call twice")
	}
}

// TestErrorsAreWithoutJargon checks that errors contain no library jargon, however deeply they are wrapped.
func TestErrorsAreWithoutJargon(t *testing.T) {
	inner := status.Error(codes.InvalidArgument, "batch 3 is too short")
	for _, err := range []error{
		serving.Status(fmt.Errorf("tables: put \"t\": %w", inner)), asShootsError(fmt.Errorf("tables: put \"t\": %w", inner)),
		serving.Status(&tables.SchemaError{Column: "c", Err: fmt.Errorf("error encountered during schema visitor: error encountered during arrow schema visitor: no such type")}),
	} {
		text := status.Convert(err).Message()
		if status.Code(err) != codes.InvalidArgument || strings.Contains(text, "rpc error") || strings.Contains(text, "visitor") || len(text) < 20 {
			t.Errorf("got %v, want InvalidArgument without jargon", err)
		}
	}
}

// TestReadOnlyServer checks that a read-only server refuses all changes, whatever the token allows, and says why.
func TestReadOnlyServer(t *testing.T) {
	_, _, address := serveTest(t, &Options{ReadOnly: true})
	c := dialTest(t, address)
	if err := putTest(t.Context(), c, `{"name":"t"}`, 1, 1); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "only for reading") {
		t.Errorf("a put on a read-only server returned %v, want PermissionDenied", err)
	}
	for _, action := range []string{"delete", "partd.delete", "partd.compact"} {
		if _, err := doAction(t.Context(), c, action, `{"name":"t","names":["t"]}`); status.Code(err) != codes.PermissionDenied {
			t.Errorf("action %s on a read-only server: got %v, want PermissionDenied", action, err)
		}
	}
	sql := flightsql.Client{Client: c}
	_, err := sql.ExecuteUpdate(t.Context(), "DELETE FROM t")
	wantCode(t, err, codes.PermissionDenied, "only for reading")
	if _, err := doAction(t.Context(), c, "buckets", `{}`); err != nil {
		t.Errorf("listing buckets on a read-only server failed: %v", err)
	}
}
