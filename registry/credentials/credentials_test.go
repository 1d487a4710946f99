package credentials_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/registry/credentials"
)

func auth(name, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(name + ":" + password))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// home is a user with every login file there can be.
type home struct{ dir string }

func newHome(t *testing.T) home { return home{t.TempDir()} }

func (h home) path(name string) string {
	return filepath.Join(h.dir, map[string]string{
		"REGISTRY_AUTH_FILE": "env.json",
		"runtime":            "run/containers/auth.json",
		"podman":             ".config/containers/auth.json",
		"DOCKER_CONFIG":      "dockerconfig/config.json",
		"docker":             ".docker/config.json",
	}[name])
}

func (h home) getenv(name string) string {
	switch name {
	case "HOME":
		return h.dir
	case "REGISTRY_AUTH_FILE":
		return filepath.Join(h.dir, "env.json")
	case "XDG_RUNTIME_DIR":
		return filepath.Join(h.dir, "run")
	case "DOCKER_CONFIG":
		return filepath.Join(h.dir, "dockerconfig")
	}
	return ""
}

func (h home) lookup(t *testing.T, domain, repository string) credentials.Credential {
	t.Helper()
	c, err := credentials.New(credentials.Options{Getenv: h.getenv}).Lookup(t.Context(), domain, repository)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMostSpecificKeyOfAllFiles(t *testing.T) {
	h := newHome(t)
	write(t, h.path("docker"), fmt.Sprintf(`{"auths": {"h.example/ns/repo": {"auth": %q}}}`, auth("docker", "1")))
	write(t, h.path("DOCKER_CONFIG"), fmt.Sprintf(`{"auths": {"h.example": {"auth": %q}, "only.example": {"auth": %q}}}`, auth("dockerconfig", "2"), auth("only", "9")))
	write(t, h.path("podman"), fmt.Sprintf(`{"auths": {"h.example/ns": {"auth": %q}, "h.example": {"auth": %q}}}`, auth("podman", "3"), auth("podman-host", "4")))
	write(t, h.path("runtime"), fmt.Sprintf(`{"auths": {"https://h.example/v2/": {"username": "runtime", "password": "5"}}}`))
	for repository, want := range map[string]string{"ns/repo": "docker:1", "ns/other": "podman:3", "ns": "podman:3", "x": "runtime:5", "ns2/repo": "runtime:5"} {
		if c := h.lookup(t, "h.example", repository); c.Username+":"+c.Password != want {
			t.Errorf("h.example/%s: %s:%s, want %s", repository, c.Username, c.Password, want)
		}
	}
	if c := h.lookup(t, "only.example", "x"); c.Username != "only" || c.Source != h.path("DOCKER_CONFIG") {
		t.Errorf("only.example: %s from %s", c.Username, c.Source)
	}
	if c := h.lookup(t, "other.example", "ns/repo"); !c.Anonymous() {
		t.Errorf("other.example: %s", c.Username)
	}
	if c := h.lookup(t, "h.example:5000", "ns/repo"); !c.Anonymous() {
		t.Errorf("another port: %s", c.Username)
	}
	write(t, h.path("REGISTRY_AUTH_FILE"), fmt.Sprintf(`{"auths": {"h.example/ns/repo": {"auth": %q}}}`, auth("env", "a:b\x00")))
	if c := h.lookup(t, "h.example", "ns/repo"); c.Username != "env" || c.Password != "a:b" {
		t.Errorf("$REGISTRY_AUTH_FILE: %s:%s", c.Username, c.Password)
	}
}

func TestDockerHub(t *testing.T) {
	for _, key := range []string{"https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"} {
		h := newHome(t)
		write(t, h.path("docker"), fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, key, auth("me", "x")))
		if c := h.lookup(t, "docker.io", "library/debian"); c.Username != "me" {
			t.Errorf("the key %s isn't found", key)
		}
	}
}

func TestTokens(t *testing.T) {
	h := newHome(t)
	write(t, h.path("docker"), fmt.Sprintf(`{"auths": {"i.example": {"auth": %q, "identitytoken": "IDT"}, "r.example": {"registrytoken": "RGT"}}}`, auth("00000000-0000-0000-0000-000000000000", "")))
	if c := h.lookup(t, "i.example", "a"); c.IdentityToken != "IDT" {
		t.Error("no identity token")
	}
	if c := h.lookup(t, "r.example", "a"); c.RegistryToken != "RGT" {
		t.Error("no registry token")
	}
	a, err := h.lookup(t, "i.example", "a").Authenticator().Authorization()
	if err != nil || a.IdentityToken != "IDT" {
		t.Errorf("authenticator: %v", err)
	}
}

// helper writes a credential helper that notes what it is asked and knows what is in the map.
func helper(t *testing.T, dir, name string, answers map[string]string) {
	t.Helper()
	script := "#!/bin/sh\nread server\necho \"$1 $server\" >> " + dir + "/asked\ncase $server in\n"
	for server, answer := range answers {
		script += fmt.Sprintf("%s) %s;;\n", server, answer)
	}
	script += "*) echo credentials not found in native keychain; exit 1;;\nesac\n"
	path := filepath.Join(dir, "bin", "docker-credential-"+name)
	write(t, path, script)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
}

func TestHelpers(t *testing.T) {
	h := newHome(t)
	helper(t, h.dir, "one", map[string]string{
		"h.example":    `echo '{"ServerURL": "h.example", "Username": "helped", "Secret": "s3cret"}'`,
		"h.example/ns": `echo '{"Username": "namespace", "Secret": "s3cret"}'`,
		"id.example":   `echo '{"Username": "<token>", "Secret": "IDT"}'`,
		"bad.example":  `echo 'no keyring s3cret' ; exit 2`,
		"odd.example":  `echo 's3cret is not json'`,
	})
	helper(t, h.dir, "two", map[string]string{
		"store.example":               `echo '{"Username": "stored", "Secret": "s3cret"}'`,
		"https://index.docker.io/v1/": `echo '{"Username": "hub", "Secret": "s3cret"}'`,
	})
	write(t, h.path("docker"), `{"auths": {"store.example": {}}, "credsStore": "two", "credHelpers": {"h.example": "one", "h.example/ns": "one", "id.example": "one",
		"bad.example": "one", "odd.example": "one", "gone.example": "gone"}}`)
	var logged bytes.Buffer
	k := credentials.New(credentials.Options{Getenv: h.getenv, Log: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for name, want := range map[string]string{"h.example/x": "helped", "h.example/ns/x": "namespace", "store.example/x": "stored", "docker.io/library/x": "hub",
		"bad.example/x": "", "odd.example/x": "", "gone.example/x": "", "unknown.example/x": ""} {
		domain, repository, _ := strings.Cut(name, "/")
		c, err := k.Lookup(t.Context(), domain, repository)
		if err != nil || c.Username != want {
			t.Errorf("%s: %q, %v; want %q", name, c.Username, err, want)
		}
	}
	if c, err := k.Lookup(t.Context(), "id.example", "x"); err != nil || c.IdentityToken != "IDT" || c.Username != "" {
		t.Errorf("id.example: %q, %v", c.Username, err)
	}
	if got := len(k.Problems()); got != 3 {
		t.Errorf("%d problems, want those of bad, odd and gone: %v", got, k.Problems())
	}
	if !strings.Contains(fmt.Sprint(k.Problems()), "docker-credential-gone") {
		t.Errorf("the missing helper isn't named: %v", k.Problems())
	}
	for range 3 {
		if _, err := k.Lookup(t.Context(), "h.example", "x"); err != nil {
			t.Fatal(err)
		}
	}
	asked, err := os.ReadFile(h.dir + "/asked")
	if err != nil || strings.Count(string(asked), "get h.example\n") != 1 {
		t.Errorf("the helper was asked\n%s", asked)
	}
	if strings.Contains(logged.String(), "s3cret\"") || strings.Contains(logged.String(), "IDT") {
		t.Errorf("a secret is in the log:\n%s", logged.String())
	}
}

func TestDefaultHelpersOfRegistriesConf(t *testing.T) {
	h := newHome(t)
	helper(t, h.dir, "first", map[string]string{"h.example": `echo '{"Username": "first", "Secret": "s"}'`})
	write(t, h.path("docker"), fmt.Sprintf(`{"auths": {"h.example": {"auth": %q}, "f.example": {"auth": %q}}}`, auth("file", "1"), auth("file", "1")))
	for order, want := range map[string]string{"first containers-auth.json": "first", "containers-auth.json first": "file", "first": "first"} {
		k := credentials.New(credentials.Options{Getenv: h.getenv, Helpers: strings.Fields(order)})
		c, err := k.Lookup(t.Context(), "h.example", "x")
		if err != nil || c.Username != want {
			t.Errorf("%s: %q, %v; want %q", order, c.Username, err, want)
		}
		if c, err := k.Lookup(t.Context(), "f.example", "x"); err != nil || c.Username != "file" {
			t.Errorf("%s: the file isn't read after the helper: %q, %v", order, c.Username, err)
		}
	}
}

func TestBadFiles(t *testing.T) {
	for text, want := range map[string]string{
		"{\"auths\": {\n\"h.example\": {\"auth\": \"s3cret!\"}}}":         `the entry "h.example" has an auth that isn't base64`,
		fmt.Sprintf(`{"auths": {"h.example": {"auth": %q}}}`, "czNjcmV0"): `the entry "h.example" has an auth that isn't base64`,
		"{\n\"auths\": s3cret":                                 "line 2: it isn't valid JSON",
		"{\n\"auths\": {\"h.example\": {\"auth\": 53242342}}}": "line 2: auths.auth has the wrong type",
	} {
		h := newHome(t)
		write(t, h.path("docker"), text)
		_, err := credentials.New(credentials.Options{Getenv: h.getenv}).Lookup(t.Context(), "h.example", "x")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), h.path("docker")) ||
			strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "5324") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q gave %v, want %q", text, err, want)
		}
	}
	h := newHome(t)
	write(t, h.path("docker"), "")
	if c := h.lookup(t, "h.example", "x"); !c.Anonymous() {
		t.Error("an empty file has credentials")
	}
	_, err := credentials.New(credentials.Options{Getenv: h.getenv, Files: []string{h.dir + "/absent"}}).Lookup(t.Context(), "h.example", "x")
	if err == nil {
		t.Error("a named file that does not exist is passed over")
	}
}

func TestNoFormatShowsSecrets(t *testing.T) {
	c := credentials.Credential{Username: "me", Password: "s3cret", IdentityToken: "s3cret", RegistryToken: "s3cret", Source: "file"}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "c", c)
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%q", c), string(encoded), logged.String()} {
		if strings.Contains(text, "s3cret") {
			t.Errorf("a secret is in %s", text)
		}
	}
}
