package shards_test

import (
	"context"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/shards"
	"github.com/go-partd/partd/stores"
)

func TestMain(m *testing.M) {
	procs.CollectLess()
	procs.TempInMemory()
	procs.Roles{"server": procs.Program(servercli.Main), "partd": procs.Program(cli.Main)}.Main(m)
}

func start(t testing.TB, args ...string) *procs.Server {
	t.Helper()
	p := must.Get(procs.StartServer(context.Background(), procs.Command("server", args...), 1))(t)
	t.Cleanup(p.Kill)
	return p
}

// cluster has three servers, with the address and the arguments of each.
type cluster struct {
	servers   [3]*procs.Server
	addresses [3]string
	args      [3][]string
}

func startCluster(t testing.TB) *cluster {
	c := &cluster{}
	for i := range c.servers {
		c.args[i] = []string{"--store", "log:" + t.TempDir() + "/data", "--listen"}
		c.servers[i] = start(t, append(c.args[i], "tcp://127.0.0.1:0")...)
		_, c.addresses[i] = c.servers[i].Address()
	}
	return c
}

func (c *cluster) restart(t testing.TB, i int) {
	c.servers[i] = start(t, append(c.args[i], "tcp://"+c.addresses[i])...)
}

func (c *cluster) url() string { return "tcp://" + strings.Join(c.addresses[:], ",") }

// serverOf returns the index of each key's server, from the servers' own listings.
func (c *cluster) serverOf(t testing.TB) map[string]int {
	t.Helper()
	servers := map[string]int{}
	for i, address := range c.addresses {
		store := open(t, "tcp://"+address)
		for info, err := range partd.Keys(context.Background(), store) {
			must.Do(t, err)
			servers[info.Key] = i
		}
		must.Do(t, partd.Close(context.Background(), store))
	}
	return servers
}

func open(t testing.TB, url string) partd.Partd {
	t.Helper()
	return must.Get(stores.Open(context.Background(), url))(t)
}

func scan(ctx context.Context, s partd.Partd, part, parts int) (map[string]string, error) {
	got := map[string]string{}
	for c, err := range partd.ScanPart(ctx, s, part, parts) {
		if err != nil {
			return got, err
		}
		got[c.Key] += string(c.Data)
	}
	return got, nil
}

func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{"Shards": new(shards.Shards), "Error": new(shards.Error)}, "Close", "Unwrap")
	ctx, errOf, names := t.Context(), func(_ any, err error) error { return err }, []string{"a", "b"}
	open := func(context.Context, string) (partd.Partd, error) { return nil, nil }
	dict := partd.NewDict()
	storetest.CheckErrors(t, map[string]func() error{
		"New(nil)":                     func() error { return errOf(shards.New(nil, nil)) },
		"New with a nil store":         func() error { return errOf(shards.New(names, []partd.Partd{dict, nil})) },
		"Open(nil)":                    func() error { return errOf(shards.Open(ctx, nil, open)) },
		"Open with a nil function":     func() error { return errOf(shards.Open(ctx, names, nil)) },
		"Open that opens nil stores":   func() error { return errOf(shards.Open(ctx, names, open)) },
		"Adopt with a nil function":    func() error { return shards.Adopt(ctx, names, nil, "a") },
		"Adopt that opens a nil store": func() error { return shards.Adopt(ctx, names, open, "a") },
		"CheckNames(nil)":              func() error { return shards.CheckNames(nil) },
		"Has(nil)": func() error {
			s, err := shards.New([]string{"a"}, []partd.Partd{dict})
			if err != nil {
				t.Error(err)
			}
			return errOf(s.Has(ctx, nil))
		},
	})
}
