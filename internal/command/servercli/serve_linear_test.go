package servercli_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
)

// call is an operation on one key in a history.
type call struct {
	op    string // append, set, set once, delete, pop, get
	key   string
	value string

	// For an append, before is the piece that precedes the appended value, if the answer to a get or
	// pop shows it. Each value is appended only once, so the checker need not try other orders.
	before  string
	isShown bool
}

// keyState describes a key in the model.
type keyState struct {
	exists bool
	value  string
}

// model defines the possible answers about a key. Stores promise no order across keys, so it checks each key
// separately.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(call).key
			byKey[k] = append(byKey[k], op)
		}
		var parts [][]porcupine.Operation
		for _, p := range byKey {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return keyState{} },
	Step: func(state, input, output any) (bool, any) {
		s, in := state.(keyState), input.(call)
		switch in.op {
		case "append":
			if in.isShown && (!strings.HasSuffix(s.value, in.before) || in.before == "" && s.value != "") {
				return false, s
			}
			return true, keyState{true, s.value + in.value}
		case "set":
			return true, keyState{true, in.value}
		case "set once":
			if s.exists {
				return true, s
			}
			return true, keyState{true, in.value}
		case "delete":
			return true, keyState{}
		case "pop":
			return s.value == output.(string), keyState{}
		}
		return s.value == output.(string), s
	},
	DescribeOperation: func(input, output any) string {
		in := input.(call)
		return fmt.Sprintf("%s %s %q → %q", in.op, in.key, in.value, output)
	},
}

// recordHistory runs concurrent clients that perform operations on two keys, and returns the history.
func recordHistory(ctx context.Context, clients []partd.Partd, name string, seed uint64, operations int) ([]porcupine.Operation, error) {
	var mu sync.Mutex
	var all []porcupine.Operation
	start := time.Now()
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for id, store := range clients {
		rnd := rand.New(rand.NewPCG(seed, uint64(id)))
		wg.Go(func() {
			for n := range operations {
				key := fmt.Sprintf("%s.%d", name, rnd.IntN(2))
				in := call{key: key, value: fmt.Sprintf("<%d.%d>", id, n)}
				var out string
				var err error
				var values [][]byte
				begun := time.Since(start)
				switch k := rnd.IntN(100); {
				case k < 45:
					in.op = "append"
					err = store.Append(ctx, partd.Entry{Key: key, Value: []byte(in.value)})
				case k < 50:
					in.op = "set"
					err = partd.Set(ctx, store, key, []byte(in.value))
				case k < 55:
					in.op = "set once"
					err = partd.SetOnce(ctx, store, key, []byte(in.value))
				case k < 60:
					in.op = "delete"
					err = partd.Delete(ctx, store, key)
				case k < 65:
					in.op = "pop"
					values, err = partd.Pop(ctx, store, key)
				default:
					in.op = "get"
					values, err = store.Get(ctx, key)
				}
				if err != nil {
					errs[id] = err
					return
				}
				if len(values) > 0 {
					out = string(values[0])
				}
				mu.Lock()
				all = append(all, porcupine.Operation{ClientId: id, Input: in, Call: int64(begun), Output: out, Return: int64(time.Since(start))})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	noteOrder(all)
	return all, nil
}

// noteOrder records the order of appends that the answers to gets and pops show. If two answers disagree, it
// records one order, so that the checker rejects the other answer.
func noteOrder(history []porcupine.Operation) {
	before := map[string]string{} // maps each value to the preceding one; values look like <1.2>
	for _, op := range history {
		last := ""
		for _, v := range strings.SplitAfter(op.Output.(string), ">") {
			if v != "" {
				before[v], last = last, v
			}
		}
	}
	for i := range history {
		in := history[i].Input.(call)
		in.before, in.isShown = before[in.value]
		history[i].Input = in
	}
}

// checkLinearizable records and checks histories. It returns an error if one is not linearizable.
func checkLinearizable(ctx context.Context, t *testing.T, clients []partd.Partd, histories int) error {
	seed := uint64(time.Now().UnixNano())
	for i := range histories {
		h, err := recordHistory(ctx, clients, fmt.Sprint("history ", i), seed+uint64(i), 8)
		if err != nil {
			t.Fatalf("seed %d, history %d: %v", seed, i, err)
		}
		if result := porcupine.CheckOperationsTimeout(model, h, time.Minute); result != porcupine.Ok {
			var b strings.Builder
			for _, op := range h {
				fmt.Fprintf(&b, "\n%d: %d to %d: %s", op.ClientId, op.Call, op.Return, model.DescribeOperation(op.Input, op.Output))
			}
			return fmt.Errorf("seed %d, history %d is not linearizable (%s):%s", seed, i, result, b.String())
		}
	}
	return nil
}

// pythonPeer appends, gets and deletes over the Python protocol, so that histories mix both protocols.
type pythonPeer struct {
	*remote.Client
	peer *hostile.Peer
}

func (p pythonPeer) Append(_ context.Context, entries ...partd.Entry) error {
	return p.peer.Ask([]string{"ack"}, "append", entries[0].Key, string(entries[0].Value))
}

func (p pythonPeer) Get(_ context.Context, keys ...string) ([][]byte, error) {
	values, err := p.peer.Get(keys...)
	if err != nil {
		return nil, err
	}
	return [][]byte{[]byte(values[0])}, nil
}

func (p pythonPeer) Delete(_ context.Context, keys ...string) error {
	return p.peer.Ask([]string{"ack"}, "delete", keys[0])
}

// TestLinearizable checks that operations on each store are linearizable, over both protocols and over cut connections.
func TestLinearizable(t *testing.T) {
	histories := procs.Number(t, "PARTD_HISTORIES", 200)
	for _, c := range []struct {
		store string
		cuts  bool
	}{{"mem:", false}, {"log:", false}, {"file:", false}, {"buffer+file:", false}, {"log:", true}, {"mem:", true}} {
		t.Run(fmt.Sprintf("%s/cuts=%v", c.store, c.cuts), func(t *testing.T) {
			url := c.store
			if url != "mem:" {
				url += t.TempDir() + "/data"
			}
			p := start(t, "--store", url)
			network, address := p.Address()
			target := p.URL()
			if c.cuts {
				proxy := must.Get(nettest.NewProxy(network, address, nettest.CutAnywhere))(t)
				defer proxy.Close()
				target = proxy.URL()
			}
			ctx := boundedContext(t, histories)
			var clients []partd.Partd
			for len(clients) < 4 {
				client, err := remote.Dial(ctx, target, nil)
				if err != nil {
					if c.cuts && ctx.Err() == nil {
						continue
					}
					t.Fatal(err)
				}
				defer client.Close()
				clients = append(clients, client)
			}
			if !c.cuts {
				for i := range 2 { // the Python protocol has no retries
					peer := must.Get(hostile.Open(ctx, network, address, 10*time.Minute))(t)
					defer peer.Close()
					clients[i] = pythonPeer{clients[i].(*remote.Client), peer}
				}
			}
			must.Do(t, checkLinearizable(ctx, t, clients, max(1, histories/6)))
		})
	}
}
