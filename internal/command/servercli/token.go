package servercli

import (
	"cmp"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/remote/tokens"
)

const tokenHelp = `Edit the file of a server's users (--tokens-file). The file contains hashes of
their tokens, from which nobody can recover the tokens. A server reads the file
when it starts and again on SIGHUP.

A user may have several tokens, for different namespaces, each with its own
rights. A client presents a token with token-file=FILE in its URL, or with
$PARTD_TOKEN.

To replace a token while clients are running:
  1. add a second token with "token rotate", and send SIGHUP to the server
  2. give the new token to the clients
  3. remove the old token with "token remove --old", and send SIGHUP again`

func newToken(s streams) *cobra.Command {
	root := &cobra.Command{
		Use: "token", Short: "Edit the users of a server", Long: tokenHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, cmd := range []*cobra.Command{newTokenAdd(s), newTokenRotate(s), newTokenList(s), newTokenRemove()} {
		cmd.Flags().String("tokens-file", "", "`FILE` with the users")
		root.AddCommand(cmd)
	}
	return root
}

// withFile returns a function for cobra that calls run with the value of --tokens-file.
func withFile(run func(file string, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		file, err := cmd.Flags().GetString("tokens-file")
		if err == nil && file == "" {
			err = cliutil.Usagef("%s needs --tokens-file FILE", cmd.CommandPath())
		}
		if err != nil {
			return err
		}
		return run(file, args)
	}
}

func newTokenAdd(s streams) *cobra.Command {
	var rights, namespace string
	var byCert bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a token for a user and print the token",
		Long: `Add a token for a user and print the token, which is stored nowhere else. RIGHTS is a list of
  read    read, list keys, get sizes, verify
  append  append and set once
  change  set, delete, pop and drop
  admin   list the namespaces to which the right applies; for the default
          namespace, also stop the server
The rights apply to all namespaces, unless --namespace names a single one ("." is the
default namespace).
With --certificate, the user presents a certificate instead of a token. It must be
issued by a CA in --tls-client-ca, and its common name must be NAME.`,
		Example: `  partd-server token add etl --rights append --tokens-file users > etl.token
  partd-server token add report --rights read --namespace job7 --tokens-file users`,
		RunE: withFile(func(file string, args []string) error {
			r, err := remote.ParseRights(rights)
			if err != nil {
				return cliutil.Usagef("--rights: %w", err)
			}
			g, token, err := tokens.NewGrant(args[0], namespace, r, byCert)
			if err != nil {
				return cliutil.Usagef("%w", err)
			}
			return tokens.Edit(file, func(grants []tokens.Grant) ([]tokens.Grant, error) {
				if slices.ContainsFunc(grants, func(o tokens.Grant) bool {
					return o.User == g.User && o.Namespace == g.Namespace && o.ByCertificate() == byCert
				}) {
					return nil, cliutil.Usagef("%s already has the user %s for that namespace: use partd-server token rotate for a second token, or token remove first", file, g.User)
				}
				if !byCert {
					if _, err := fmt.Fprintln(s.out, token); err != nil {
						return nil, err // do not add a token that nobody has seen
					}
				}
				return append(grants, g), nil
			})
		}),
	}
	cmd.Flags().StringVar(&rights, "rights", "", "`RIGHTS` of the token, separated by commas: read, append, change, admin")
	cmd.Flags().StringVar(&namespace, "namespace", tokens.AllNamespaces, "`NAME` of the only namespace to which the rights apply")
	cmd.Flags().BoolVar(&byCert, "certificate", false, "let the user present a certificate instead of a token")
	return cmd
}

func newTokenRotate(s streams) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Add a second token with the same rights and print it",
		Example: "  partd-server token rotate etl --tokens-file users > etl.token",
		RunE: withFile(func(file string, args []string) error {
			return tokens.Edit(file, func(grants []tokens.Grant) ([]tokens.Grant, error) {
				matches := slices.DeleteFunc(slices.Clone(grants), func(g tokens.Grant) bool {
					return g.User != args[0] || g.Namespace != namespace || g.ByCertificate()
				})
				if len(matches) != 1 {
					return nil, fmt.Errorf("%s: user %s has %d tokens for the namespace %s, but rotate needs exactly one: list them with partd-server token list, then set --namespace or run token remove --old",
						file, args[0], len(matches), namespace)
				}
				g, token, err := tokens.NewGrant(args[0], namespace, matches[0].Rights, false)
				if err != nil {
					return nil, err
				}
				_, err = fmt.Fprintln(s.out, token)
				return append(grants, g), err
			})
		}),
	}
	cmd.Flags().StringVar(&namespace, "namespace", tokens.AllNamespaces, "`NAME` of the token's namespace")
	return cmd
}

func newTokenList(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the users with their rights", Example: "  partd-server token list --tokens-file users",
		RunE: withFile(func(file string, _ []string) error {
			grants, err := tokens.Read(file)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			slices.SortStableFunc(grants, func(a, b tokens.Grant) int { return cmp.Compare(a.User, b.User) })
			for _, g := range grants {
				credential := "token"
				if g.ByCertificate() {
					credential = "certificate"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.User, g.Namespace, g.Rights, credential)
			}
			return w.Flush()
		}),
	}
}

func newTokenRemove() *cobra.Command {
	var namespace string
	var old bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Remove a user, a user's rights in one namespace, or old tokens",
		Example: "  partd-server token remove etl --tokens-file users",
		RunE: withFile(func(file string, args []string) error {
			return tokens.Edit(file, func(grants []tokens.Grant) ([]tokens.Grant, error) {
				var kept []tokens.Grant
				for i, g := range grants {
					isNewer := func(o tokens.Grant) bool { return o.User == g.User && o.Namespace == g.Namespace && !o.ByCertificate() }
					isOld := !g.ByCertificate() && slices.ContainsFunc(grants[i+1:], isNewer)
					if g.User != args[0] || namespace != "" && g.Namespace != namespace || old && !isOld {
						kept = append(kept, g)
					}
				}
				switch {
				case len(kept) < len(grants):
					return kept, nil
				case old:
					return nil, fmt.Errorf("%s: user %s has no old token", file, args[0])
				case namespace == "":
					return nil, fmt.Errorf("%s: no such user: %s", file, args[0])
				}
				return nil, fmt.Errorf("%s: user %s has no token for the namespace %s", file, args[0], namespace)
			})
		}),
	}
	cmd.Flags().StringVar(&namespace, "namespace", "", "remove only the rights in the namespace `NAME` (default: all rights)")
	cmd.Flags().BoolVar(&old, "old", false, "remove only the tokens that token rotate has replaced")
	return cmd
}
