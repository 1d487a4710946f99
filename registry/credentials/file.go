package credentials

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxFileSize bounds a login file, in bytes. Real ones have a few KiB.
const maxFileSize = 4 << 20

// content is a login file as it is written; everything else that Docker keeps in it is passed over.
type content struct {
	Auths       map[string]entry  `json:"auths"`
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

type entry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// file is a login file with its keys in canonical form.
type file struct {
	content
	path           string
	auths, helpers keys
}

// keys maps a canonical key, HOST[:PORT][/...], to the keys as they are written, the one that is canonical itself first.
type keys map[string][]string

func (k keys) find(key string) []string { return k[key] }

func keysOf[V any](m map[string]V) keys {
	k := keys{}
	for written := range m {
		c := canonical(written)
		k[c] = append(k[c], written)
	}
	for c, written := range k {
		slices.SortFunc(written, func(a, b string) int {
			if (a == c) != (b == c) {
				if a == c {
					return -1
				}
				return 1
			}
			return strings.Compare(a, b)
		})
	}
	return k
}

// readFile reads one login file. Errors name the file and never quote it.
func readFile(path string) (*file, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading login file: %w", err)
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading login file: %w", err)
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("reading login file %s: it is larger than 4 MiB", path)
	}
	f := &file{path: path}
	if len(strings.TrimSpace(string(data))) == 0 {
		return f, nil // An empty file is what "touch" leaves for podman login.
	}
	if err := json.Unmarshal(data, &f.content); err != nil {
		return nil, fmt.Errorf("reading login file %s: %s", path, jsonProblem(data, err))
	}
	f.auths, f.helpers = keysOf(f.Auths), keysOf(f.CredHelpers)
	return f, nil
}

// jsonProblem says what is wrong on which line; the JSON package's own words could quote a secret.
func jsonProblem(data []byte, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset, what := int64(-1), "it isn't valid JSON"
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset, what = kind.Offset, kind.Field+" has the wrong type"
	}
	if offset < 0 || offset > int64(len(data)) {
		return what
	}
	return fmt.Sprintf("line %d: %s", 1+strings.Count(string(data[:offset]), "\n"), what)
}

// decode gives the credential that is written under a key of auths. "auth" is base64 of NAME:PASSWORD.
func (f *file) decode(key string) (Credential, error) {
	e := f.Auths[key]
	c := Credential{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken, Source: f.path}
	if e.Auth != "" {
		plain, err := base64.StdEncoding.DecodeString(e.Auth)
		name, password, found := strings.Cut(string(plain), ":")
		if err != nil || !found {
			return Credential{}, fmt.Errorf("reading login file %s: the entry %q has an auth that isn't base64 of NAME:PASSWORD; log in again", f.path, key)
		}
		c.Username, c.Password = name, strings.Trim(password, "\x00")
	}
	return c, nil
}

// canonical brings a key of a login file into the form HOST[:PORT][/NAMESPACE...]: https://index.docker.io/v1/ is
// docker.io.
func canonical(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimRight(key, "/")
	host, path, found := strings.Cut(key, "/")
	host = canonicalHost(host)
	if !found || path == "v1" || path == "v2" {
		return host
	}
	return host + "/" + path
}

func canonicalHost(host string) string {
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}

// serverNames are the names under which a credential store may know a host.
func serverNames(host string) []string {
	if host == "docker.io" {
		return []string{"https://index.docker.io/v1/", "docker.io"}
	}
	return []string{host, "https://" + host}
}
