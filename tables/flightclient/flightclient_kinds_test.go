package flightclient_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// failingEngine fails each statement with the error whose word is in the name of the statement's column.
type failingEngine map[string]error

func (e failingEngine) Query(_ context.Context, _ *tables.Store, sql string, _ *tables.QueryOptions) (array.RecordReader, error) {
	_, word, _ := strings.Cut(sql, `"kind `)
	word, _, _ = strings.Cut(word, `"`)
	return nil, e[word]
}

func (e failingEngine) Describe(_ context.Context, _ *tables.Store, sql string, _ *tables.QueryOptions) (*tables.QueryDescription, error) {
	_, err := e.Query(context.Background(), nil, sql, nil)
	return nil, err
}

func (failingEngine) ColumnTypes(*arrow.Schema, *arrow.Schema) []string { return nil }

// TestKinds checks that each kind of error reaches Go's clients with its fields and its Go error, that other Flight
// clients get its status, and that clients of shoots get its type, whatever the texts are.
func TestKinds(t *testing.T) {
	all := tabletest.KindErrors()
	store := must.Get(tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: failingEngine(all)}))(t)
	server := must.Get(flightd.New(store, nil))(t)
	address, _ := nettest.Serve(t, server.Serve, store)
	c := must.Get(flightclient.Dial("grpc://"+address, nil))(t)
	defer c.Close()
	plain := must.Get(flight.NewClientWithMiddleware(address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	defer plain.Close()
	must.Get(store.Bucket("").Table("t").Put(t.Context(), tabletest.Rows(1), tables.PutError, nil))(t)
	for word, err := range all {
		want := kinds.Of(err)
		_, got := c.Query(t.Context(), `SELECT 1 AS "kind `+word+`"`, nil)
		if got == nil || !reflect.DeepEqual(kinds.Of(got), want) {
			t.Errorf("%s: the client got %v with %+v, want %+v", word, got, kinds.Of(got), want)
			continue
		}
		if goErr := errors.Unwrap(err); goErr != nil && !errors.Is(got, goErr) && !errors.As(got, reflect.New(reflect.TypeOf(goErr)).Interface()) {
			t.Errorf("%s: the client's error wraps no %T", word, goErr)
		}
		_, changeErr := c.Exec(t.Context(), `INSERT INTO t SELECT 1 AS "kind `+word+`"`, nil)
		isUnknown := want.Retry == kinds.WithID && want.Kind != kinds.Internal
		if errors.Is(changeErr, partd.ErrUnknownOutcome) != isUnknown {
			t.Errorf("%s: a change returned %v, want ErrUnknownOutcome: %v", word, changeErr, isUnknown)
		}
		var trailer metadata.MD
		command := fmt.Appendf(nil, `{"name":"t","sql":"SELECT 1 AS \"kind %s\""}`, word)
		_, err = plain.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command}, grpc.Trailer(&trailer))
		details := strings.Join(trailer.Get("grpc-status-details-bin"), "")
		hasStatus := status.Code(err) == want.GRPC && details == ""
		if hasType := strings.Contains(details, `"type":"`); !hasType && !hasStatus || kinds.Parse(strings.Join(trailer.Get(kinds.Header), "")) == nil {
			t.Errorf("%s: a client of shoots got %v with the trailers %q", word, err, trailer)
		}
	}
}
