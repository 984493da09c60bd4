// Command embedded serves its own store over TLS. Clients need the token that is in this program's
// environment variable TOKEN.
//
//	TOKEN=… embedded --cert cert.pem --key key.pem [--listen tls://HOST:PORT] [--store DIR]
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/remote/tokens"
)

func main() {
	cert := flag.String("cert", "cert.pem", "`FILE` with the certificate")
	key := flag.String("key", "key.pem", "`FILE` with its key")
	listen := flag.String("listen", "tls://127.0.0.1:7443", "`URL` to listen on")
	dir := flag.String("store", "store", "`DIRECTORY` of the store")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ready := func(a net.Addr) { fmt.Println("serving", remote.URL(a)) }
	if err := run(ctx, *listen, *cert, *key, *dir, os.Getenv("TOKEN"), ready); err != nil {
		fmt.Fprintln(os.Stderr, "embedded:", err)
		os.Exit(1)
	}
}

// run serves until ctx is canceled. It calls ready with the listener's address.
func run(ctx context.Context, listen, cert, key, dir, token string, ready func(net.Addr)) (err error) {
	users, err := tokens.New(map[string]tokens.Grant{
		token: {User: "worker", Namespace: tokens.DefaultNamespace, Rights: remote.RightRead | remote.RightAppend},
	})
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	listener, err := remote.ListenTLS(listen, &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		return err
	}
	store, err := logstore.Open(dir, nil)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server, err := remote.NewServer(store, &remote.ServerOptions{Authorizer: users})
	if err != nil {
		return errors.Join(err, listener.Close(), store.Close())
	}
	ready(listener.Addr())
	err = server.Serve(ctx, listener) // call Serve in a goroutine if the program also uses the store itself
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(end)) // also closes the listener and the store
}
