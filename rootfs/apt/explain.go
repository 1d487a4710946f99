package apt

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
)

// explain turns the failure of apt into an error that names the place in the description and the way out.
func (s *Session) explain(err error, o *output, packages []description.Package) error {
	var exit *command.ExitError
	if errors.As(err, &exit) && exit.Signal != "" {
		return err
	}
	var complaints []string
	for _, line := range o.lines {
		for _, prefix := range []string{"E: ", "W: ", "Err:"} {
			if strings.HasPrefix(line, prefix) {
				complaints = append(complaints, line)
			}
		}
	}
	all := strings.Join(complaints, "\n") + "\n" + strings.Join(o.lines[max(0, len(o.lines)-40):], "\n")
	if e := s.missingPackage(complaints, packages); e != nil {
		return e
	}
	for _, cause := range causes() {
		for _, sign := range cause.signs {
			if !strings.Contains(all, sign) {
				continue
			}
			detail := firstWith(append(complaints, o.lines...), sign)
			if cause.hint == "" {
				return fmt.Errorf("%s: %s", cause.text, detail)
			}
			if src, ok := s.concerned(all, detail); ok {
				return s.at(src, cause.hint, "repository %s: %s: %s", src.repo.Source, cause.text, detail)
			}
			return fmt.Errorf("%s: %s; %s", cause.text, detail, cause.hint)
		}
	}
	return withOutput(err, o)
}

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
func (s *Session) missingPackage(complaints []string, packages []description.Package) error {
	var found description.Errors
	for _, line := range complaints {
		name := missingName(line)
		if name == "" {
			continue
		}
		hint := "check its name; the repositories are: " + strings.Join(s.repositories(), ", ")
		for _, p := range packages {
			if p.Name == name || strings.HasPrefix(p.Name, name+":") || strings.HasPrefix(p.Name, name+"=") {
				found = append(found, p.Errorf("", hint, "no repository has the package %s", p.Name))
				name = ""
				break
			}
		}
		if name != "" {
			found = append(found, description.Origin{}.Errorf("", hint, "no repository has the package %s", name))
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found
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

// repositories names where packages were looked for.
func (s *Session) repositories() []string {
	if s.sources.own {
		return []string{"those of the root tree's /etc/apt"}
	}
	names := make([]string, 0, len(s.sources.list))
	for _, src := range s.sources.list {
		name := src.repo.Source
		if src.local == "" {
			name = src.uri // has no secret
		}
		if src.repo.Distribution != "" {
			name += " " + src.repo.Distribution
		}
		names = append(names, name)
	}
	return names
}

// concerned finds the repository that apt's words are about.
func (s *Session) concerned(all, detail string) (source, bool) {
	for _, text := range []string{detail, all} {
		for _, src := range s.sources.list {
			address := strings.TrimSuffix(strings.TrimSuffix(src.uri, "/"), "/.")
			if strings.Contains(text, address) {
				return src, true
			}
		}
		for _, src := range s.sources.list {
			if u, err := url.Parse(src.uri); err == nil && u.Hostname() != "" && strings.Contains(text, u.Hostname()) {
				return src, true
			}
		}
	}
	if len(s.sources.list) == 1 {
		return s.sources.list[0], true
	}
	return source{}, false
}

// at makes an error at the repository in the description, in words that the user knows.
func (s *Session) at(src source, hint, format string, args ...any) error {
	shown := src.repo.Source
	if src.local == "" {
		shown = src.uri
	}
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			if text == src.repo.Source {
				text = shown
			}
			if src.local != "" {
				text = strings.ReplaceAll(text, src.uri, "file:"+src.local)
			}
			args[i] = text
		}
	}
	e := src.repo.Errorf("", hint, format, args...)
	if !src.repo.SourcePos.IsZero() {
		e.Pos = src.repo.SourcePos
	}
	return e
}
