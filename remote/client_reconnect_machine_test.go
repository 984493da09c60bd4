package remote

import (
	"context"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/partdtest"
)

// cuttingClient is a client that loses its connection or its server before each operation.
type cuttingClient struct {
	*Client
	r *restartingServer
	t *testing.T
	n int // number of operations so far
}

// cut breaks the connection or, at every third operation, restarts the server.
func (c *cuttingClient) cut() {
	c.n++
	if c.n%3 != 0 {
		c.r.proxy.Cut()
		return
	}
	// The client cannot know whether a request to a dead server arrived. So before the next
	// operation, wait until the client has detected the broken connection.
	c.Client.mu.Lock()
	if current := c.attempt; current != nil {
		c.Client.mu.Unlock()
		<-current.done
		c.Client.mu.Lock()
	}
	l := c.link
	c.Client.mu.Unlock()
	c.r.restart(c.t)
	c.r.proxy.Cut()
	if l != nil {
		<-l.done
	}
}

func (c *cuttingClient) Append(ctx context.Context, entries ...partd.Entry) error {
	c.cut()
	return c.Client.Append(ctx, entries...)
}

func (c *cuttingClient) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	c.cut()
	return c.Client.Get(ctx, keys...)
}

func (c *cuttingClient) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	c.cut()
	return c.Client.Pop(ctx, keys...)
}

func (c *cuttingClient) Set(ctx context.Context, key string, value []byte) error {
	c.cut()
	return c.Client.Set(ctx, key, value)
}

func (c *cuttingClient) SetOnce(ctx context.Context, key string, value []byte) error {
	c.cut()
	return c.Client.SetOnce(ctx, key, value)
}

func (c *cuttingClient) Delete(ctx context.Context, keys ...string) error {
	c.cut()
	return c.Client.Delete(ctx, keys...)
}

func (c *cuttingClient) Drop(ctx context.Context) error {
	c.cut()
	return c.Client.Drop(ctx)
}

func (c *cuttingClient) Flush(ctx context.Context) error {
	c.cut()
	return c.Client.Flush(ctx)
}

// TestMachineWithCuts checks that a client behaves like a plain map, although its connection is cut or
// its server is killed before each operation.
func TestMachineWithCuts(t *testing.T) {
	for _, name := range []string{"buffer", "dict", "log"} {
		t.Run(name, func(t *testing.T) {
			partdtest.StateMachine(t, func(t *testing.T) partd.Partd {
				r := startRestarting(t, stores[name](t), nettest.CutNever)
				return &cuttingClient{Client: dialRepeatedly(t, r.proxy.URL()), r: r, t: t}
			}, &partdtest.Options{MachineRuns: 8})
		})
	}
}
