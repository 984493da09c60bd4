package cli

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables/internal/operations"
)

// recorder is a server that notes which actions it is asked for, and answers {}, or with
// the default bucket where it is asked for buckets.
type recorder struct {
	flight.BaseFlightServer
	asked chan string
}

func (r *recorder) DoAction(a *flight.Action, stream flight.FlightService_DoActionServer) error {
	r.asked <- a.Type
	body := "{}"
	if a.Type == operations.Buckets.Action() {
		body = `""`
	}
	return stream.Send(&flight.Result{Body: []byte(body)})
}

// Every operation with a command is what that command asks a server for.
func TestOperations(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	server := flight.NewServerWithMiddleware(nil)
	server.InitListener(l)
	r := &recorder{asked: make(chan string, 10)}
	server.RegisterFlightService(r)
	go func() { _ = server.Serve() }()
	t.Cleanup(server.Shutdown)
	args := map[string][]string{
		"delete": {"t"}, "describe": {"t"}, "versions": {"t"}, "settings": {"--time", "at", "t"}, "partition": {"t"},
		"evolve": {"t", "--drop", "x"}, "delete-rows": {"t", "--where", "x > 1"}, "meta set": {"t", "k=v"}, "snapshot delete": {"s"}, "snapshot restore": {"s"},
		"resample": {"t", "u", "--sql", "SELECT 1"}, "combine": {"t", "u", "v"}, "clean": {"t"},
	}
	for _, o := range operations.All() {
		if o.Command == "" {
			continue
		}
		all := [][]string{args[o.Command]}
		if o.Command == "rules" {
			all = [][]string{{"list", "t"}, {"remove", "t", "r"}}
		}
		var asked []string
		for _, more := range all {
			_, stderr, _ := command(t, "", append(append(strings.Fields(o.Command), "--server", "grpc://"+l.Addr().String()), more...)...)
			for len(r.asked) > 0 {
				asked = append(asked, <-r.asked)
			}
			if len(asked) == 0 {
				t.Errorf("%s %q asked for nothing: %s", o.Command, more, stderr)
			}
		}
		if !slices.Contains(asked, o.Action()) {
			t.Errorf("%s asked for %q, and not for %s", o.Command, asked, o.Action())
		}
	}
}
