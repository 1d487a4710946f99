// Package credentials finds the user's secret for a registry in the files of docker login and podman login and in
// credential helpers.
//
// Formats: containers-auth.json(5), Docker's config.json (auths, credHelpers, credsStore), and the protocol of
// docker-credential-helpers.
package credentials

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Credential is what to show a registry. The zero value is that of an anonymous user. Printing it shows no secret.
type Credential struct {
	Username, Password string
	// IdentityToken is exchanged for access tokens at the registry's token server (OAuth 2 refresh token).
	IdentityToken string
	// RegistryToken is shown to the registry as it is.
	RegistryToken string
	// Source says where it was found: a file, or a helper and the file that names it.
	Source string
}

// String tells where the credential came from, and no secret.
func (c Credential) String() string {
	if c.Source == "" {
		return "no credentials"
	}
	return "credentials of " + c.Source
}

// GoString is String, so that no format verb shows a secret.
func (c Credential) GoString() string { return c.String() }

// LogValue is String, so that no log shows a secret.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is String, so that no encoder shows a secret.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Anonymous reports whether there is nothing to show.
func (c Credential) Anonymous() bool {
	return c.Username == "" && c.Password == "" && c.IdentityToken == "" && c.RegistryToken == ""
}

// Authenticator returns c in the form that go-containerregistry takes.
func (c Credential) Authenticator() authn.Authenticator {
	if c.Anonymous() {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken})
}

// Options says where to look.
type Options struct {
	// Getenv looks up REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR, XDG_CONFIG_HOME, DOCKER_CONFIG and HOME; nil means os.Getenv.
	Getenv func(string) string
	// Files are looked into before all others; one that does not exist is an error.
	Files []string
	// Helpers are the default credential helpers of registries.conf; "containers-auth.json" stands for the files.
	Helpers []string
	// UID is the user whose runtime directory counts when XDG_RUNTIME_DIR is not set.
	UID int
	// Log tells which file or helper answered, never what; nil means no log.
	Log *slog.Logger
}

// Keychain finds credentials. It may be used by several goroutines at once.
type Keychain struct {
	opts  Options
	files func() ([]*file, error)

	mu       sync.Mutex
	answers  map[question]answer
	problems []error
}

// New returns a keychain. The files are read at the first look-up.
func New(opts Options) *Keychain {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keychain{opts: opts, answers: map[question]answer{}}
	k.files = sync.OnceValues(k.load)
	return k
}

// Lookup finds the credential for a repository of the registry domain, HOST[:PORT]. The most specific key counts,
// domain/namespace/repository before domain/namespace before domain, whatever file it is in; of equal keys the first file's:
// the files of Options, $REGISTRY_AUTH_FILE, podman's, Docker's. Without any, the zero Credential is returned.
//
// A helper that is missing or fails is passed over, so that a public container can still be had; Problems tells of it.
func (k *Keychain) Lookup(ctx context.Context, domain, repository string) (Credential, error) {
	files, err := k.files()
	if err != nil {
		return Credential{}, err
	}
	host := canonicalHost(domain)
	for key := host + "/" + repository; ; {
		for _, f := range files {
			c, err := k.lookupIn(ctx, f, key, key == host)
			if err != nil {
				return Credential{}, err
			}
			if !c.Anonymous() {
				k.opts.Log.Debug("found credentials", "key", key, "source", c.Source)
				return c, nil
			}
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			return Credential{}, nil
		}
		key = key[:i]
	}
}

// Problems are the helpers that could not be asked so far.
func (k *Keychain) Problems() []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]error(nil), k.problems...)
}

// lookupIn looks for one key, HOST[:PORT][/...], in one file.
func (k *Keychain) lookupIn(ctx context.Context, f *file, key string, isHost bool) (Credential, error) {
	for _, written := range f.helpers.find(key) {
		if c := k.ask(ctx, f.CredHelpers[written], written, f.path); !c.Anonymous() {
			return c, nil
		}
	}
	for _, written := range f.auths.find(key) {
		c, err := f.decode(written)
		if err != nil {
			return Credential{}, err
		}
		if c.Anonymous() && f.CredsStore != "" {
			c = k.ask(ctx, f.CredsStore, written, f.path)
		}
		if !c.Anonymous() {
			return c, nil
		}
	}
	if !isHost || f.CredsStore == "" {
		return Credential{}, nil
	}
	for _, server := range serverNames(key) {
		if c := k.ask(ctx, f.CredsStore, server, f.path); !c.Anonymous() {
			return c, nil
		}
	}
	return Credential{}, nil
}

// load reads every file there is, in the order of Lookup.
func (k *Keychain) load() ([]*file, error) {
	var files []*file
	read := func(path string, optional bool) error {
		f, err := readFile(path)
		if optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
			return nil
		}
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	}
	for _, path := range k.opts.Files {
		if err := read(path, false); err != nil {
			return nil, err
		}
	}
	usual := func() error {
		for _, path := range k.opts.usualFiles() {
			if err := read(path, true); err != nil {
				return err
			}
		}
		return nil
	}
	done := false
	for _, helper := range k.opts.Helpers {
		if helper != "containers-auth.json" {
			files = append(files, &file{path: "registries.conf", content: content{CredsStore: helper}})
			continue
		}
		done = true
		if err := usual(); err != nil {
			return nil, err
		}
	}
	if !done {
		if err := usual(); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// usualFiles are where podman login and docker login write.
func (o Options) usualFiles() []string {
	var list []string
	if path := o.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		list = append(list, path)
	}
	runtime := o.Getenv("XDG_RUNTIME_DIR")
	if runtime != "" {
		list = append(list, filepath.Join(runtime, "containers", "auth.json"))
	} else {
		list = append(list, fmt.Sprintf("/run/containers/%d/auth.json", o.UID))
	}
	home := o.Getenv("HOME")
	if config := o.Getenv("XDG_CONFIG_HOME"); config != "" {
		list = append(list, filepath.Join(config, "containers", "auth.json"))
	}
	if home != "" {
		list = append(list, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	if docker := o.Getenv("DOCKER_CONFIG"); docker != "" {
		list = append(list, filepath.Join(docker, "config.json"))
	}
	if home != "" {
		list = append(list, filepath.Join(home, ".docker", "config.json"))
	}
	return list
}
