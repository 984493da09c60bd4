package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables/flightd"
)

const defaultTTL = 365 * 24 * time.Hour

func newToken(a *app) *cobra.Command {
	var admin, read bool
	var file, name string
	var buckets []string
	ttl := ttlFlag(defaultTTL)
	cmd := &cobra.Command{
		Use:   "token --admin|--read --secret-file FILE",
		Short: "Print a token for clients of serve",
		Long: `Print a token for the clients of a server, signed with the server's secret in --secret-file.
The server's logs show the name in a token, which --name sets. To revoke a token before it expires,
add its name to the server's --revoked-file, or change the secret.`,
		Example: "  partd-tables token --read --name report --ttl 30d --secret-file secret",
		Args:    cliutil.CheckArgCount(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if admin == read {
				return cliutil.Usagef("token needs either --admin or --read")
			}
			if file == "" {
				return cliutil.Usagef("--secret-file is missing: name the file with the server's secret, which signs the token")
			}
			secret, err := readSecret("--secret-file", file)
			if err != nil {
				return err
			}
			rights := flightd.Admin
			if read {
				rights = flightd.Read
			}
			var token string
			if name == "" {
				token, err = flightd.NewToken(secret, rights, "", time.Duration(ttl), buckets...)
			} else {
				token, err = flightd.NewNamedToken(secret, name, rights, time.Duration(ttl), buckets...)
				if err != nil {
					return cliutil.Usagef("--name: %w", err)
				}
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, token)
			return err
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&admin, "admin", false, "allow everything")
	fl.BoolVar(&read, "read", false, "allow only reading")
	fl.StringVar(&name, "name", "", "the user's `NAME`: logs show it, limits apply to all tokens with this name together, and the server's --revoked-file can list it")
	fl.Var(&ttl, "ttl", "expire after this `DURATION`, such as 12h or 365d")
	fl.StringArrayVar(&buckets, "bucket", nil, "allow access only to this `BUCKET`, and only over HTTP, not Flight; may be repeated")
	fl.StringVar(&file, "secret-file", "", "`FILE` with the secret")
	return cmd
}

// ttlFlag is a duration flag that accepts days.
type ttlFlag time.Duration

func (t *ttlFlag) Type() string { return "duration" }

func (t *ttlFlag) String() string {
	if d := time.Duration(*t); d%(24*time.Hour) != 0 {
		return d.String()
	}
	return strconv.Itoa(int(time.Duration(*t)/(24*time.Hour))) + "d"
}

func (t *ttlFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		const maxDays = 36500
		var n int
		n, err = strconv.Atoi(days)
		if err == nil && n <= maxDays {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("invalid duration %q: use, for example, 12h or 365d", text)
	}
	*t = ttlFlag(d)
	return nil
}
