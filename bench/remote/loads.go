package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/hostile"
)

const (
	keys       = 1000
	valueBytes = 100
	largeBytes = 1 << 20
	mega       = 1e6
)

// concurrently makes n concurrent calls of f and returns the seconds until the last one returns.
func concurrently(n int, f func(i int) error) (float64, error) {
	errs := make([]error, n)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return time.Since(start).Seconds(), errors.Join(errs...)
}

// measure makes n requests of size bytes each and returns the rate in MB/s. Several workers send the
// requests at the same time.
func measure(workers, n, size int, request func(worker, i int) error) (rate float64, err error) {
	seconds, err := concurrently(workers, func(worker int) error {
		for i := worker; i < n; i += workers {
			if err := request(worker, i); err != nil {
				return err
			}
		}
		return nil
	})
	return float64(n*size) / mega / seconds, err
}

// withClient calls f with a client of the server at url.
func withClient[V any](ctx context.Context, url string, f func(c client) (V, error)) (v V, err error) {
	c, err := dial(ctx, url)
	if err != nil {
		return v, err
	}
	v, err = f(c)
	return v, errors.Join(err, c.Close())
}

// appendSmall appends batches of 1,000 entries over several connections, with inFlight concurrent
// requests on each. It returns the rate in MB/s, after checking the sizes on the server.
func appendSmall(ctx context.Context, url string, connections, inFlight, batches int) (rate float64, err error) {
	clients := make([]client, connections)
	for i := range clients {
		c, err := dial(ctx, url)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		clients[i] = c
	}
	batch := make([]partd.Entry, keys)
	for i := range batch {
		batch[i] = partd.Entry{Key: fmt.Sprintf("key%05d", i), Value: bytes.Repeat([]byte("v"), valueBytes)}
	}
	rate, err = measure(connections*inFlight, batches, keys*valueBytes, func(worker, _ int) error {
		return clients[worker%connections].Append(ctx, batch...)
	})
	if err != nil {
		return 0, err
	}
	stats, err := clients[0].Stat(ctx)
	if total := int64(batches) * keys * valueBytes; err == nil && (stats.Bytes != total || stats.Keys != keys) {
		err = fmt.Errorf("the server holds %d keys with %d bytes, want %d with %d", stats.Keys, stats.Bytes, keys, total)
	}
	return rate, err
}

// withPeers calls f with n connections for the protocol of Python's partd.
func withPeers[V any](ctx context.Context, url string, n int, f func(peers []*hostile.Peer) (V, error)) (v V, err error) {
	var peers []*hostile.Peer
	for range n {
		p, err := hostile.Open(ctx, "tcp", strings.TrimPrefix(url, "tcp://"), time.Hour)
		if err != nil {
			return v, err
		}
		defer p.Close() // all requests were answered, so an error does not matter
		peers = append(peers, p)
	}
	return f(peers)
}

// appendRaw is like appendSmall, but uses Python's protocol, which allows only one request at a
// time on each connection.
func appendRaw(ctx context.Context, url string, connections, batches int) (float64, error) {
	request := []string{"append"}
	for i := range keys {
		request = append(request, fmt.Sprintf("key%05d", i), strings.Repeat("v", valueBytes))
	}
	message := hostile.Message(request...)
	return withPeers(ctx, url, connections, func(peers []*hostile.Peer) (float64, error) {
		return measure(connections, batches, keys*valueBytes, func(worker, _ int) error {
			if err := peers[worker].Raw(message); err != nil {
				return err
			}
			ack, err := peers[worker].Receive()
			if err != nil || ack[0] != "ack" {
				return fmt.Errorf("the server answered an append with %q: %w", ack, err)
			}
			return nil
		})
	})
}

const (
	largeKeys        = 256
	largeRounds      = 4   // values of largeBytes per key; all values have 1 GiB in total
	largePythonCount = 128 // number of values of largeBytes in runs with Python's server
	largeInFlight    = 4   // concurrent requests
)

func largeKey(i int) string { return fmt.Sprint("large", i%largeKeys) }

// appendLarge appends values of 1 MiB and returns the rate in MB/s.
func appendLarge(ctx context.Context, url string) (float64, error) {
	return withClient(ctx, url, func(c client) (float64, error) { return appendLargeValues(ctx, c, largeRounds) })
}

func appendLargeValues(ctx context.Context, c client, rounds int) (float64, error) {
	value := bytes.Repeat([]byte("1 MiB of "), largeBytes/9+1)[:largeBytes]
	return measure(largeInFlight, largeKeys*rounds, largeBytes, func(_, i int) error {
		return c.Append(ctx, partd.Entry{Key: largeKey(i), Value: value})
	})
}

func appendLargeRaw(ctx context.Context, url string) (float64, error) {
	value := strings.Repeat("v", largeBytes)
	return withPeers(ctx, url, 1, func(peers []*hostile.Peer) (float64, error) {
		return measure(1, largePythonCount, largeBytes, func(_, i int) error {
			return peers[0].Ask([]string{"ack"}, "append", largeKey(i), value)
		})
	})
}

// getLarge reads values of 1 MiB and returns the rate in MB/s.
func getLarge(ctx context.Context, url string) (float64, error) {
	return withClient(ctx, url, func(c client) (float64, error) {
		if _, err := appendLargeValues(ctx, c, 1); err != nil {
			return 0, err
		}
		return measure(largeInFlight, largeKeys*largeRounds, largeBytes, func(_, i int) error {
			values, err := c.Get(ctx, largeKey(i))
			return errors.Join(err, checkLarge(i, values))
		})
	})
}

func checkLarge[V string | []byte](i int, values []V) error {
	if len(values) != 1 || len(values[0]) != largeBytes {
		return fmt.Errorf("a get of %s returned %d values, want one of %d bytes", largeKey(i), len(values), largeBytes)
	}
	return nil
}

func getLargeRaw(ctx context.Context, url string) (float64, error) {
	if _, err := appendLargeRaw(ctx, url); err != nil {
		return 0, err
	}
	return withPeers(ctx, url, 1, func(peers []*hostile.Peer) (float64, error) {
		return measure(1, largePythonCount, largeBytes, func(_, i int) error {
			values, err := peers[0].Get(largeKey(i))
			return errors.Join(err, checkLarge(i, values))
		})
	})
}

//go:embed client.py
var clientPython string

func pythonClient(_ context.Context, url string) (float64, error) {
	cmd, err := program.Python("partd, zmq", "-c", clientPython, url)
	if err != nil {
		return 0, err
	}
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}
