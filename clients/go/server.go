package hook

// Serving: addresses, TLS, the standard health service, and a graceful stop. HTTP/2 pings are needed nowhere: the protocol
// has heartbeats of its own.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"warp.example/hook/hookv1"
)

// Server is a hook with its settings. The zero value of each is a good one. A Server serves once.
type Server struct {
	// Name and Version are what the proxy logs. Default: the program's name.
	Name    string
	Version string
	// Handlers do the work: at most one filter, at most one choice of route, any number of observers.
	Handlers []Handler
	// MaxMessageOctets: a longer message arrives cut, with Envelope.Truncated. 0: no limit.
	MaxMessageOctets uint64
	// HeaderOnly: the proxy need not send bodies.
	HeaderOnly bool
	// Concurrency is how many messages are looked at at once (each may be in memory whole); further calls wait, unread.
	// Default: 64.
	Concurrency int
	// TLS, if set. The proxy wants it for TCP to anything but loopback. See TLSFiles.
	TLS *tls.Config
	// Grace is what filters get to finish when the server stops. Default: 10 s.
	Grace time.Duration
	// Log takes what a handler's failure was. Default: slog.Default().
	Log *slog.Logger
	// OnListening is called with each address once it listens (with the port that was taken, for port 0). Default: a line on
	// stderr.
	OnListening func(address string)
}

// Serve listens on the addresses (unix:/path or host:port) until ctx is done; then it takes no new calls, ends Observe
// streams after the batch in hand (the proxy reconnects and sends again what was not acknowledged), gives filters Grace to
// finish, and returns nil. It returns an error where an address can't be had or a handler is none.
func (s *Server) Serve(ctx context.Context, addresses ...string) error {
	s.setDefaults()
	if len(addresses) == 0 {
		return errors.New("hook: a server needs an address: unix:/path or host:port")
	}
	service, err := newService(s)
	if err != nil {
		return err
	}
	listeners, err := listenAll(addresses)
	if err != nil {
		return err
	}
	var options []grpc.ServerOption
	if s.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.TLS)))
	}
	server := grpc.NewServer(options...)
	hookv1.RegisterHookServiceServer(server, service)
	state := health.NewServer()
	state.SetServingStatus(hookv1.HookService_ServiceDesc.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, state)

	failed := make(chan error, len(listeners))
	for i, listener := range listeners {
		go func() { failed <- server.Serve(listener) }()
		s.OnListening(name(listener, addresses[i]))
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	state.Shutdown()
	close(service.stopping)
	stopWithin(server, s.Grace)
	return err
}

func (s *Server) setDefaults() {
	if s.Name == "" {
		s.Name = filepath.Base(os.Args[0])
	}
	if s.Concurrency <= 0 {
		s.Concurrency = 64
	}
	if s.Grace <= 0 {
		s.Grace = 10 * time.Second
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if s.OnListening == nil {
		s.OnListening = func(address string) { fmt.Fprintf(os.Stderr, "%s listens on %s\n", s.Name, address) }
	}
}

func stopWithin(server *grpc.Server, grace time.Duration) {
	stopped := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(grace):
		server.Stop()
	}
}

func listenAll(addresses []string) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, address := range addresses {
		listener, err := listen(address)
		if err != nil {
			for _, other := range listeners {
				other.Close()
			}
			return nil, fmt.Errorf("hook: cannot listen on %s: %w", address, err)
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// listen takes over the socket file of a server that is gone. A socket is for its owner and group.
func listen(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return net.Listen("tcp", address)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		connection, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			connection.Close()
			return nil, errors.New("another server listens there")
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

func name(listener net.Listener, wanted string) string {
	if strings.HasPrefix(wanted, "unix:") {
		return wanted
	}
	return listener.Addr().String()
}

// TLSFiles makes a TLS configuration of PEM files. With clientCA only a proxy whose certificate that CA signed may connect;
// "" for any.
func TLSFiles(cert, key, clientCA string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		pem, err := os.ReadFile(clientCA)
		if err != nil {
			return nil, err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", clientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// Flags are the command line that a hook program has: -tls-cert, -tls-key, -tls-client-ca and one or more addresses.
type Flags struct {
	set                 *flag.FlagSet
	cert, key, clientCA *string
}

// AddFlags puts them beside your own flags.
func AddFlags(set *flag.FlagSet) *Flags {
	set.Usage = func() {
		fmt.Fprintf(set.Output(), "usage: %s [flags] ADDRESS…   (unix:/path or host:port)\n", set.Name())
		set.PrintDefaults()
	}
	return &Flags{
		set:      set,
		cert:     set.String("tls-cert", "", "certificate chain (PEM `file`)"),
		key:      set.String("tls-key", "", "its private key (PEM `file`)"),
		clientCA: set.String("tls-client-ca", "", "only proxies with a certificate of this CA (PEM `file`)"),
	}
}

// Main serves as the parsed flags say, until SIGTERM or SIGINT, and gives the exit status: 0, 1 for a failure, 2 for wrong
// usage.
func (f *Flags) Main(s *Server) int {
	if f.set.NArg() == 0 {
		f.set.Usage()
		return 2
	}
	if *f.cert != "" || *f.key != "" || *f.clientCA != "" {
		if *f.cert == "" || *f.key == "" {
			fmt.Fprintln(f.set.Output(), "-tls-cert and -tls-key go together (-tls-client-ca needs both)")
			return 2
		}
		config, err := TLSFiles(*f.cert, *f.key, *f.clientCA)
		if err != nil {
			fmt.Fprintln(f.set.Output(), err)
			return 1
		}
		s.TLS = config
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := s.Serve(ctx, f.set.Args()...); err != nil {
		fmt.Fprintln(f.set.Output(), err)
		return 1
	}
	return 0
}
