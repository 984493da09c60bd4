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

// concurrently makes n concurrent calls of f, and returns the seconds until the last one returns.
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

// appendSmall appends batches of 1,000 entries over several connections, with inFlight concurrent
// requests on each, and returns the rate in MB/s. It then checks the sizes on the server.
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
	perConnection := batches / (connections * inFlight)
	seconds, err := concurrently(connections*inFlight, func(i int) error {
		for range perConnection {
			if err := clients[i%connections].Append(ctx, batch...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	total := int64(perConnection*connections*inFlight) * keys * valueBytes
	stats, err := clients[0].Stat(ctx)
	if err == nil && (stats.Bytes != total || stats.Keys != keys) {
		err = fmt.Errorf("the server holds %d keys with %d bytes, want %d with %d", stats.Keys, stats.Bytes, keys, total)
	}
	return float64(total) / mega / seconds, err
}

// dialRaw opens n connections for the protocol of Python's partd, and returns a function that
// closes them.
func dialRaw(ctx context.Context, url string, n int) ([]*hostile.Peer, func(), error) {
	peers := make([]*hostile.Peer, 0, n)
	closeAll := func() {
		for _, p := range peers {
			_ = p.Close() // all requests were answered, so an error does not matter
		}
	}
	for range n {
		p, err := hostile.Open(ctx, "tcp", strings.TrimPrefix(url, "tcp://"), time.Hour)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		peers = append(peers, p)
	}
	return peers, closeAll, nil
}

// appendRaw is like appendSmall, but uses Python's protocol, which allows only one request at a
// time on each connection.
func appendRaw(ctx context.Context, url string, connections, batches int) (float64, error) {
	peers, closeAll, err := dialRaw(ctx, url, connections)
	if err != nil {
		return 0, err
	}
	defer closeAll()
	request := []string{"append"}
	for i := range keys {
		request = append(request, fmt.Sprintf("key%05d", i), strings.Repeat("v", valueBytes))
	}
	message := hostile.Message(request...)
	perConnection := batches / connections
	seconds, err := concurrently(connections, func(i int) error {
		for range perConnection {
			if err := peers[i].Raw(message); err != nil {
				return err
			}
			if ack, err := peers[i].Receive(); err != nil || ack[0] != "ack" {
				return fmt.Errorf("the server answered an append with %q: %w", ack, err)
			}
		}
		return nil
	})
	return float64(perConnection*connections*keys*valueBytes) / mega / seconds, err
}

const (
	largeKeys     = 256
	largeRounds   = 4   // values of largeBytes for each key; all values together have 1 GiB
	largeOfPython = 128 // number of values of largeBytes for Python's server
)

func largeKey(i int) string { return fmt.Sprint("large", i) }

// appendLarge appends values of 1 MiB, with four concurrent requests, and returns the rate in MB/s.
func appendLarge(ctx context.Context, url string) (rate float64, err error) {
	c, err := dial(ctx, url)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	const inFlight = 4
	value := bytes.Repeat([]byte("1 MiB of "), largeBytes/9+1)[:largeBytes]
	seconds, err := concurrently(inFlight, func(i int) error {
		for n := i; n < largeKeys*largeRounds; n += inFlight {
			if err := c.Append(ctx, partd.Entry{Key: largeKey(n % largeKeys), Value: value}); err != nil {
				return err
			}
		}
		return nil
	})
	return largeKeys * largeRounds * largeBytes / mega / seconds, err
}

func appendLargeRaw(ctx context.Context, url string) (float64, error) {
	peers, closeAll, err := dialRaw(ctx, url, 1)
	if err != nil {
		return 0, err
	}
	defer closeAll()
	value := strings.Repeat("v", largeBytes)
	seconds, err := concurrently(1, func(int) error {
		for n := range largeOfPython {
			if err := peers[0].Ask([]string{"ack"}, "append", largeKey(n), value); err != nil {
				return err
			}
		}
		return nil
	})
	return largeOfPython * largeBytes / mega / seconds, err
}

// getLarge reads values of 1 MiB, with four concurrent requests, and returns the rate in MB/s.
func getLarge(ctx context.Context, url string) (rate float64, err error) {
	c, err := dial(ctx, url)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	const inFlight = 4
	value := bytes.Repeat([]byte("v"), largeBytes)
	for n := range largeKeys {
		if err := c.Append(ctx, partd.Entry{Key: largeKey(n), Value: value}); err != nil {
			return 0, err
		}
	}
	seconds, err := concurrently(inFlight, func(i int) error {
		for n := i; n < largeKeys*largeRounds; n += inFlight {
			values, err := c.Get(ctx, largeKey(n%largeKeys))
			if err != nil {
				return err
			}
			if len(values[0]) != largeBytes {
				return fmt.Errorf("%s has %d bytes, want %d", largeKey(n%largeKeys), len(values[0]), largeBytes)
			}
		}
		return nil
	})
	return largeKeys * largeRounds * largeBytes / mega / seconds, err
}

func getLargeRaw(ctx context.Context, url string) (float64, error) {
	if _, err := appendLargeRaw(ctx, url); err != nil {
		return 0, err
	}
	peers, closeAll, err := dialRaw(ctx, url, 1)
	if err != nil {
		return 0, err
	}
	defer closeAll()
	seconds, err := concurrently(1, func(int) error {
		for n := range largeOfPython {
			values, err := peers[0].Get(largeKey(n))
			if err != nil {
				return err
			}
			if len(values[0]) != largeBytes {
				return fmt.Errorf("%s has %d bytes, want %d", largeKey(n), len(values[0]), largeBytes)
			}
		}
		return nil
	})
	return largeOfPython * largeBytes / mega / seconds, err
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
