package flightd

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// TestOperations checks that every operation is an action under each of its names, requires the right that
// package operations defines, and refuses input that is not JSON.
func TestOperations(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: testSecret})
	client := dialTest(t, address)
	reader, _ := withToken(t, testSecret, Read)
	admin, _ := withToken(t, testSecret, Admin)
	for _, o := range operations.All() {
		for _, name := range []string{"partd." + o.Name, o.Action(), strings.ReplaceAll("partd."+o.Name, "_", "-")} {
			_, err := doAction(reader, client, name, "nonsense")
			if want := map[bool]codes.Code{true: codes.PermissionDenied, false: codes.InvalidArgument}[o.Writes]; status.Code(err) != want {
				t.Errorf("%s with a read token: got %v, want %v", name, err, want)
			}
			if _, err := doAction(admin, client, name, "nonsense"); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s with an admin token: got %v, want InvalidArgument", name, err)
			}
		}
	}
	if _, err := doAction(admin, client, "partd.nothing", "{}"); status.Code(err) == codes.OK {
		t.Error("the unknown action partd.nothing succeeded")
	}
}

// TestBothSlotsOrNone checks that an operation that needs both slots releases its query slot if it gets no put slot.
func TestBothSlotsOrNone(t *testing.T) {
	s, _, _ := serveTest(t, &Options{Queries: 1, Puts: 1})
	ctx, end := s.NewCall(t.Context(), &serving.Caller{Rights: serving.Admin}, "")
	defer end(nil)
	releasePut, err := serving.Acquire(ctx, operations.PutSlot)
	if err != nil {
		t.Fatal(err)
	}
	waitingCtx, endWaiting := s.NewCall(t.Context(), &serving.Caller{Rights: serving.Admin}, "")
	done := make(chan error, 1)
	go func() {
		_, err := serving.Acquire(waitingCtx, operations.BothSlots)
		done <- err
	}()
	waitFor(t, "the operation does not wait for a put slot", func() bool { _, waiting := s.Puts.Counts(); return waiting == 1 })
	endWaiting(context.Canceled)
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("the waiting Acquire = %v, want Canceled", err)
	}
	if running, waiting := s.Queries.Counts(); running+waiting != 0 {
		t.Fatalf("%v queries run and %v wait, want none", running, waiting)
	}
	releasePut()
	releaseBoth, err := serving.Acquire(ctx, operations.BothSlots)
	if err != nil {
		t.Fatal(err)
	}
	releaseBoth()
	queries, _ := s.Queries.Counts()
	if puts, _ := s.Puts.Counts(); queries+puts != 0 {
		t.Errorf("%v query slots and %v put slots are still used", queries, puts)
	}
}

// TestStrangers checks that the number of strangers includes a connection until a call with a valid token uses it.
func TestStrangers(t *testing.T) {
	s, _, address := serveTest(t, &Options{Secret: testSecret})
	client := dialTest(t, address)
	strangers := func() int { return s.Conns.Hosts()["127.0.0.1"].Strangers }
	if _, err := doAction(t.Context(), client, "ping", ""); status.Code(err) != codes.Unauthenticated || strangers() != 1 {
		t.Errorf("ping without a token: %v with %d strangers, want Unauthenticated with 1", err, strangers())
	}
	reader, _ := withToken(t, testSecret, Read)
	if _, err := doAction(reader, client, "ping", ""); err != nil || strangers() != 0 {
		t.Errorf("ping with a token: %v with %d strangers, want none", err, strangers())
	}
}
