package cli

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// recorder is a server that records the names of actions. For the action that lists buckets, it sends the default
// bucket's name. For every other action, it sends {}.
type recorder struct {
	flight.BaseFlightServer
	actions chan string
}

func (r *recorder) DoAction(a *flight.Action, stream flight.FlightService_DoActionServer) error {
	r.actions <- a.Type
	body := "{}"
	if a.Type == operations.Buckets.Action() {
		body = `""`
	}
	return stream.Send(&flight.Result{Body: []byte(body)})
}

// TestOperations checks that every operation with a command is called by that command.
func TestOperations(t *testing.T) {
	l := must.Get(net.Listen("tcp", "localhost:0"))(t)
	server := flight.NewServerWithMiddleware(nil)
	server.InitListener(l)
	r := &recorder{actions: make(chan string, 10)}
	server.RegisterFlightService(r)
	go func() { _ = server.Serve() }()
	t.Cleanup(server.Shutdown)
	args := map[string][]string{
		"delete": {"t"}, "describe": {"t"}, "versions": {"t"}, "settings": {"--time", "at", "t"}, "partition": {"t"},
		"evolve": {"t", "--drop", "x"}, "delete-rows": {"t", "--where", "x > 1"}, "meta set": {"t", "k=v"}, "snapshot delete": {"s"}, "snapshot restore": {"s"},
		"resample": {"t", "u", "--sql", "SELECT 1"}, "combine": {"t", "u", "v"}, "clean": {"t"}, "sql": {"DELETE FROM t"},
		"backup": {"--to", "d", "--name", "n"}, "restore": {"--from", "d", "--name", "n"}, "copy": {"--to", "d"},
	}
	for _, o := range operations.All() {
		if o.Command == "" {
			continue
		}
		variants := [][]string{args[o.Command]}
		if o.Command == "rules" {
			variants = [][]string{{"list", "t"}, {"remove", "t", "r"}}
		}
		var called []string
		for _, variant := range variants {
			_, stderr, _ := command(t, "", append(append(strings.Fields(o.Command), "--server", "grpc://"+l.Addr().String()), variant...)...)
			for len(r.actions) > 0 {
				called = append(called, <-r.actions)
			}
			if len(called) == 0 {
				t.Errorf("%s %q called no action: %s", o.Command, variant, stderr)
			}
		}
		if !slices.Contains(called, o.Action()) {
			t.Errorf("%s called %q, but not %s", o.Command, called, o.Action())
		}
	}
}
