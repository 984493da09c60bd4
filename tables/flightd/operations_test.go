package flightd

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables/internal/operations"
)

// Every operation is an action under each of its names, takes the right that the table of
// operations says, and no input that is not JSON.
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
		t.Error("there is no partd.nothing")
	}
}
