package apt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// explain turns the failure of apt into an error that names the place in the description and the way out.
func (s *session) explain(ctx context.Context, err error, o *packages.Output, t task) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) && !errors.Is(err, errUnread) || exit != nil && exit.Signal != "" {
		return err
	}
	lines := o.Lines()
	var complaints []string
	for _, line := range lines {
		for _, prefix := range []string{"E: ", "W: ", "Err:"} {
			if strings.HasPrefix(line, prefix) {
				complaints = append(complaints, line)
			}
		}
	}
	all := strings.Join(complaints, "\n") + "\n" + strings.Join(lines[max(0, len(lines)-40):], "\n")
	if e := s.missingPackage(ctx, complaints, t); e != nil {
		return e
	}
	for _, cause := range causes() {
		for _, sign := range cause.signs {
			if !strings.Contains(all, sign) {
				continue
			}
			detail := firstWith(append(complaints, lines...), sign)
			if cause.hint == "" {
				return fmt.Errorf("%s: %s", cause.text, detail)
			}
			if r, ok := s.Repositories.Concerned(detail, all); ok {
				return r.Errorf(cause.hint, "repository %s: %s: %s", r, cause.text, strings.ReplaceAll(detail, "file:/run", "file:///run"))
			}
			return fmt.Errorf("%s: %s; %s", cause.text, detail, cause.hint)
		}
	}
	return o.Failed(err)
}

// errUnread is the failure of an update that apt takes for a success.
var errUnread = errors.New("a repository could not be read")

// cause is a kind of failure and the words of apt that tell it.
type cause struct {
	text, hint string
	signs      []string
}

func causes() []cause {
	return []cause{
		{"there is no space left", "", []string{"No space left on device", "You don't have enough free space", "cannot copy extracted data"}},
		{
			"its signature can't be verified", "add <signing key=\"...\"/> to the repository, or repository_gpgcheck=\"false\" to trust it without a signature",
			[]string{"NO_PUBKEY", "BADSIG", "EXPKEYSIG", "REVKEYSIG", "is not signed", "no longer signed", "The following signatures", "cannot be authenticated", "unauthenticated"},
		},
		{"it refuses access", "give the right username and password to the repository", []string{"401  Unauthorized", "401 Unauthorized", "403  Forbidden", "Unauthorized"}},
		{
			"it can't be read", "check its address and, for a flat repository, that no distribution is given",
			[]string{
				"does not have a Release file", "Unable to find expected entry", "404  Not Found", "Could not resolve", "Temporary failure resolving", "Could not connect", "Unable to connect",
				"Cannot initiate the connection", "Connection failed", "Connection timed out", "Certificate verification failed", "Clearsigned file isn't valid",
				"Hash Sum mismatch", "File has unexpected size", "Failed to fetch", "File not found", "is not valid yet", "Release file for", "a repository could not be read",
			},
		},
	}
}

func firstWith(lines []string, sign string) string {
	for _, line := range lines {
		if strings.Contains(line, sign) {
			return line
		}
	}
	return sign
}

// missingPackage is the error for packages that no repository has.
func (s *session) missingPackage(ctx context.Context, complaints []string, t task) error {
	var found description.Errors
	var known []string
	for _, line := range complaints {
		name := missingName(line)
		if name == "" {
			continue
		}
		if known == nil {
			known = s.known(ctx, t)
		}
		hint := description.DidYouMean(name, known, "check its name") + "; the repositories are: " + strings.Join(s.names(), ", ")
		origin := description.Origin{}
		for _, p := range t.list {
			if p.Name == name || strings.HasPrefix(p.Name, name+":") || strings.HasPrefix(p.Name, name+"=") {
				origin = p.Origin
				break
			}
		}
		found = append(found, origin.Errorf("", hint, "no repository has the package %s", name))
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

// known are the names of all packages that the repositories have; none where apt can't tell.
func (s *session) known(ctx context.Context, t task) []string {
	var names strings.Builder
	spec := s.spec(task{place: t.place, noNetwork: true}, "apt-cache", "-c", insideConf+"/apt.conf", "pkgnames")
	spec.Stdout = &names
	if err := s.run(ctx, t, spec); err != nil {
		s.Log.Debug("asking apt for the names of all packages", "error", err)
		return nil
	}
	return strings.Fields(names.String())
}

// missingName returns the package that apt says it can't find.
func missingName(line string) string {
	if rest, ok := strings.CutPrefix(line, "E: Unable to locate package "); ok {
		return rest
	}
	if rest, ok := strings.CutPrefix(line, "E: Package '"); ok && strings.HasSuffix(rest, "' has no installation candidate") {
		return strings.TrimSuffix(rest, "' has no installation candidate")
	}
	if rest, ok := strings.CutPrefix(line, "E: Couldn't find any package by "); ok {
		if _, quoted, ok := strings.Cut(rest, "'"); ok {
			return strings.TrimSuffix(quoted, "'")
		}
	}
	for _, what := range []string{"' was not found", "' for '"} {
		if strings.HasPrefix(line, "E: Version '") && strings.Contains(line, what) {
			parts := strings.Split(line, "'")
			if len(parts) >= 4 {
				return parts[3]
			}
		}
	}
	return ""
}

// names tells where packages were looked for.
func (s *session) names() []string {
	if s.sources.own {
		return []string{"those of the root tree's /etc/apt"}
	}
	return s.Repositories.Names()
}
