package kinds_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRoundTrip checks that a client gets the same kinds, fields and Go errors as the server, whatever the texts are.
func TestRoundTrip(t *testing.T) {
	all := tabletest.KindErrors()
	for word, err := range all {
		sent := kinds.Of(err)
		if sent.Kinds[0] != word || sent.Retry != sent.Kind.Retry {
			t.Errorf("%s: got kinds %q and retry %q, want the kind first, with its retry", word, sent.Kinds, sent.Retry)
		}
		received := kinds.Parse(sent.Header()).GoError("x")
		if got := kinds.Of(fmt.Errorf("wrapped: %w", received)); !reflect.DeepEqual(got, sent) {
			t.Errorf("%s: the client got %+v, want %+v", word, got, sent)
		}
		goErr := errors.Unwrap(err)
		if goErr != nil && !errors.Is(received, goErr) && !errors.As(received, reflect.New(reflect.TypeOf(goErr)).Interface()) {
			t.Errorf("%s: the client's error wraps no %T", word, goErr)
		}
	}
	moment, ok := errors.AsType[*tables.MomentError](kinds.Parse(kinds.Of(all["moment"]).Header()).GoError("x"))
	if want := errors.Unwrap(all["moment"]); !ok || moment.Error() != want.Error() {
		t.Errorf("got %v, want %v", moment, want)
	}
}

// TestSeveralKinds checks the order of an error's kinds, and that the first one determines whether repeating is safe.
func TestSeveralKinds(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}
	for want, err := range map[string]error{
		"unknown_outcome disk_full id":     fmt.Errorf("%w: %w", full, partd.ErrUnknownOutcome),
		"disk_full sql no":                 &tables.SQLError{Err: full.Err},
		"moment not_found no":              &tables.OpError{Err: &tables.MomentError{}},
		"call_limit canceled timed_out id": fmt.Errorf("%w: %w", kinds.CallLimit.Errorf("x"), context.Canceled),
		"invalid damaged no":               &tables.ArgumentError{Err: tables.ErrDamaged},
		"permission sql no":                &tables.SQLError{Err: fs.ErrPermission},
		"internal id":                      &tables.SQLError{Err: &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}},
		"busy too_large yes":               fmt.Errorf("put: %w", spill.ErrQuota),
		"unsupported no":                   status.Error(codes.Unimplemented, "another package's error"),
		"unavailable id":                   status.Error(codes.Unavailable, "another package's error"),
		"namespace_not_found not_found no": kinds.NamespaceNotFound.Errorf("x"),
		"unknown_outcome stopping busy id": errors.Join(kinds.Busy.Errorf("x"), fmt.Errorf("x: %w", errors.Join(kinds.Stopping.Errorf("x"), kinds.UnknownOutcome.Errorf("x")))),
	} {
		if d := kinds.Of(err); strings.Join(append(d.Kinds, d.Retry), " ") != want {
			t.Errorf("%v: got kinds %q and retry %q, want %s", err, d.Kinds, d.Retry, want)
		}
	}
}

// TestHeader checks that a header is short and in ASCII, and that unknown words are ignored.
func TestHeader(t *testing.T) {
	d := kinds.Of(&tables.SchemaError{Column: "größe \U0001F600\n", Err: errors.New("x")})
	if got := kinds.Parse(d.Header()); strings.ContainsFunc(d.Header(), func(r rune) bool { return r < ' ' || r > '~' }) || got.Name != d.Name {
		t.Errorf("the header is %q with name %q, want ASCII and name %q", d.Header(), got.Name, d.Name)
	}
	long := kinds.Of(&tables.DuplicateError{Count: 3, Rows: slices.Repeat([]string{strings.Repeat("é", 100)}, 10)}).Header()
	if got := kinds.Parse(long); len(long) > 1024 || got.Count != 3 || got.Rows != nil {
		t.Errorf("a header of %d bytes has count %d and %d rows, want at most 1024 bytes with count 3 and no rows", len(long), got.Count, len(got.Rows))
	}
	if got := kinds.Parse(`{"kinds":["new","exists"],"new":1}`); got == nil || got.Kind != kinds.Exists {
		t.Errorf("a later server's kinds: got %+v, want exists", got)
	}
	for _, moment := range []string{"9999-12-31T23:59:59-12:00", "0000-01-01T00:00:00+12:00"} { // in UTC, the year does not fit into JSON
		time := must.Get(time.Parse(time.RFC3339, moment))(t)
		if got := kinds.Parse(kinds.Of(&tables.MomentError{Time: time}).Header()); got == nil || got.Kind != kinds.Moment {
			t.Errorf("%s: got %+v, want the kind moment", moment, got)
		}
	}
	for _, text := range []string{"", "{}", `{"kinds":["new"]}`, "x"} {
		if got := kinds.Parse(text); got != nil {
			t.Errorf("Parse(%q) = %+v, want nil", text, got)
		}
	}
}

var rowPattern = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|[^|]*\\|[^|]*\\| ([a-z]+) \\| ([A-Za-z]+) \\| ([0-9]+) \\| ([0-9]+) `([A-Za-z]+)` \\|")

// TestDocumented checks that the table in docs/dev/tables-wire.md has all kinds in their order.
func TestDocumented(t *testing.T) {
	page := must.Get(os.ReadFile("../../../../docs/dev/tables-wire.md"))(t)
	var got, want []string
	for _, row := range rowPattern.FindAllStringSubmatch(string(page), -1) {
		got = append(got, strings.Join(row[1:], " "))
	}
	for _, k := range kinds.All {
		want = append(want, fmt.Sprint(k.Word, " ", k.Retry, " ", k.GRPC, " ", k.HTTP, " ", k.REST, " ", k.Iceberg))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
