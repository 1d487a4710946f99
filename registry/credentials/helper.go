package credentials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
)

// question is what a helper was asked, answer what it said; both are kept because a helper may ask the user or a
// network service.
type question struct{ helper, server string }

type answer struct{ credential Credential }

// ask runs docker-credential-HELPER get. A failure other than "not found" is kept for Problems.
func (k *Keychain) ask(ctx context.Context, helper, server, path string) Credential {
	if helper == "" {
		return Credential{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	q := question{helper, server}
	if a, ok := k.answers[q]; ok {
		return a.credential
	}
	c, err := askHelper(ctx, helper, server)
	if err != nil {
		if ctx.Err() != nil {
			return Credential{}
		}
		err = fmt.Errorf("asking the credential helper %q, which %s names, for %s: %w", helper, path, server, err)
		k.problems = append(k.problems, err)
		k.opts.Log.Warn(err.Error())
	}
	if !c.Anonymous() {
		c.Source = fmt.Sprintf("the credential helper %s (%s)", helper, path)
	}
	k.answers[q] = answer{c}
	return c
}

// askHelper speaks the protocol: the server's name goes in, {"ServerURL", "Username", "Secret"} comes out; the user name
// "<token>" marks an identity token. A helper that has nothing says "credentials not found in native keychain" on standard
// output and fails.
func askHelper(ctx context.Context, helper, server string) (Credential, error) {
	if strings.ContainsAny(helper, "/\x00") {
		return Credential{}, errors.New("a helper's name has no slash")
	}
	var said strings.Builder
	err := command.Run(ctx, command.Cmd{Name: "docker-credential-" + helper, Args: []string{"get"},
		Stdin: strings.NewReader(server), Stdout: &said})
	text := strings.TrimSpace(said.String())
	var exit *command.ExitError
	switch {
	case errors.As(err, &exit) && notFound(text):
		return Credential{}, nil
	case errors.As(err, &exit):
		return Credential{}, fmt.Errorf("it failed: %q", firstLine(text))
	case err != nil:
		return Credential{}, err
	}
	var out struct{ Username, Secret string }
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return Credential{}, errors.New("it answered something that isn't JSON")
	}
	if out.Username == "<token>" {
		return Credential{IdentityToken: out.Secret}, nil
	}
	return Credential{Username: out.Username, Password: out.Secret}, nil
}

func notFound(text string) bool {
	return strings.Contains(text, "credentials not found") || strings.Contains(text, "no credentials server URL") ||
		strings.Contains(text, "no credentials username")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line[:min(len(line), 200)]
}
