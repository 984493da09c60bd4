package flightd

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables/internal/operations"
)

// Every operation is an action under each of its names. It requires the right that the table of
// operations states, and refuses input that is not JSON.
func TestOperations(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: strangersSecret})
	client := dialTest(t, address)
	reader, _ := withToken(t, strangersSecret, Read)
	admin, _ := withToken(t, strangersSecret, Admin)
	for _, o := range operations.All() {
		for _, name := range []string{"partd." + o.Name, o.Action(), strings.ReplaceAll("partd."+o.Name, "_", "-")} {
			_, err := act(reader, client, name, "nonsense")
			if want := map[bool]codes.Code{true: codes.PermissionDenied, false: codes.InvalidArgument}[o.Writes]; status.Code(err) != want {
				t.Errorf("%s with a token for reading: %v, want %v", name, err, want)
			}
			if _, err := act(admin, client, name, "nonsense"); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s with an admin's token: %v", name, err)
			}
		}
	}
	if _, err := act(admin, client, "partd.nothing", "{}"); status.Code(err) == codes.OK {
		t.Error("the unknown action partd.nothing succeeded")
	}
}

// An operation that needs both slots and gets no put slot releases its query slot.
func TestBothSlotsOrNone(t *testing.T) {
	s, _, _ := serveTest(t, &Options{Queries: 1, Puts: 1})
	ctx, end := s.callOf(t.Context(), &Caller{Rights: Admin}, "")
	defer end(nil)
	put, err := Acquire(ctx, operations.PutSlot)
	if err != nil {
		t.Fatal(err)
	}
	waits, give := s.callOf(t.Context(), &Caller{Rights: Admin}, "")
	done := make(chan error, 1)
	go func() {
		_, err := Acquire(waits, operations.BothSlots)
		done <- err
	}()
	waitFor(t, "the operation does not wait for a put's slot", func() bool { _, waiting := s.puts.counts(); return waiting == 1 })
	give(context.Canceled)
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	if running, waiting := s.queries.counts(); running+waiting != 0 {
		t.Fatalf("%v queries run and %v wait", running, waiting)
	}
	put()
	both, err := Acquire(ctx, operations.BothSlots)
	if err != nil {
		t.Fatal(err)
	}
	both()
	queries, _ := s.queries.counts()
	if puts, _ := s.puts.counts(); queries+puts != 0 {
		t.Errorf("slots of %v queries and %v puts are taken", queries, puts)
	}
}

// A connection counts as a stranger until a call with a token uses it.
func TestStrangers(t *testing.T) {
	s, _, address := serveTest(t, &Options{Secret: strangersSecret})
	client := dialTest(t, address)
	strangers := func() int {
		s.conns.mu.Lock()
		defer s.conns.mu.Unlock()
		return s.conns.strangers
	}
	if _, err := act(t.Context(), client, "ping", ""); status.Code(err) != codes.Unauthenticated || strangers() != 1 {
		t.Errorf("without a token: %v, %d strangers", err, strangers())
	}
	reader, _ := withToken(t, strangersSecret, Read)
	if _, err := act(reader, client, "ping", ""); err != nil || strangers() != 0 {
		t.Errorf("with a token: %v, %d strangers", err, strangers())
	}
}
