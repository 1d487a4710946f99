package repositories

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
)

// maxMirrorList bounds a list of mirrors, in bytes.
const maxMirrorList = 4 << 20

// IsList reports whether the repository's address is that of a list of mirrors, and not of the repository itself.
func (r Repository) IsList() bool {
	return r.Description.SourceType == "metalink" || r.Description.SourceType == "mirrorlist"
}

// checkList refuses lists of mirrors that the package manager or the image has no use for.
func (o *opener) checkList(r Repository) *description.Error {
	d, manager := r.Description, o.Image.PackageManager
	const hint = "give the address of a mirror"
	switch manager {
	case "apt", "apk", "pacman":
		if d.SourceType == "metalink" {
			return d.Errorf("sourcetype", hint+`, or a list with one address a line as sourcetype="mirrorlist"`, "%s has repositories that no metalink can name: those list mirrors of rpm-md repositories", manager)
		}
	}
	if r.IsList() && (d.ImageInclude || d.ImageOnly) && (manager == "apk" || manager == "pacman") {
		return d.Errorf("sourcetype", hint+", or take imageinclude and imageonly away", "the image can't have the repository %s: %s can't fetch lists of mirrors by itself", r.shown(), manager)
	}
	return nil
}

// Mirrors returns the addresses of the repository itself, the best one first, for package managers that don't read the list by themselves. They have no secrets.
// Variables such as $basearch that stand in the list's address or in the list are replaced: variables has them by name, without the dollar sign. Without a
// list it is the repository's only address.
func (r Repository) Mirrors(ctx context.Context, variables map[string]string) ([]string, error) {
	if !r.IsList() {
		return []string{expand(r.URI, variables)}, nil
	}
	data, err := r.source.get(ctx, address{uri: expand(r.URI, variables), user: r.User, password: r.Password}, "mirrors", maxMirrorList)
	if err != nil {
		return nil, r.Errorf("check its address, or give that of a mirror", "the list of mirrors %s can't be fetched: %v", r.shown(), err)
	}
	list, err := parseMirrors(data)
	if err != nil {
		return nil, r.Errorf("give the address of a metalink or of a list with one address a line", "the list of mirrors %s can't be read: %v", r.shown(), err)
	}
	for i, mirror := range list {
		list[i] = expand(mirror, variables)
	}
	return list, nil
}

// expand replaces $NAME and ${NAME} where the name is known; others stay.
func expand(text string, variables map[string]string) string {
	names := make([]string, 0, len(variables))
	for name := range variables {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) }) // $arch is the beginning of $architecture
	for _, name := range names {
		text = strings.ReplaceAll(text, "${"+name+"}", variables[name])
		text = strings.ReplaceAll(text, "$"+name, variables[name])
	}
	return text
}

// parseMirrors reads a metalink or a plain list. Only addresses that are safe to hand on count.
func parseMirrors(data []byte) ([]string, error) {
	var all []string
	if trimmed := bytes.TrimSpace(data); bytes.HasPrefix(trimmed, []byte("<")) {
		var err error
		if all, err = parseMetalink(trimmed); err != nil {
			return nil, err
		}
	} else {
		all = parseMirrorList(string(data))
	}
	var good []string
	for _, mirror := range all {
		u, err := url.Parse(mirror)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ftp" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(mirror, " \t\"'\\") {
			continue
		}
		if !slices.Contains(good, mirror) {
			good = append(good, mirror)
		}
	}
	if len(good) == 0 {
		return nil, errors.New("it has no http, https or ftp address")
	}
	return good, nil
}

// parseMirrorList reads a list with one address a line, as dnf, zypper and apt's mirror method have it (further words are about the address), or with pacman's
// lines "Server = ADDRESS".
func parseMirrorList(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, value, found := strings.Cut(line, "="); found && strings.TrimSpace(name) == "Server" {
			line = strings.TrimSpace(value)
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		list = append(list, strings.Fields(line)[0])
	}
	return list
}

// metalinkURL is an address of a metalink. Version 3 has a preference, 100 at best; version 4 (RFC 5854) a priority, 1 at best.
type metalinkURL struct {
	Address    string `xml:",chardata"`
	Preference string `xml:"preference,attr"`
	Priority   string `xml:"priority,attr"`
}

// rank is smaller for a better mirror; https comes before others of the same preference.
func (u metalinkURL) rank() int {
	rank := 500
	if n, err := strconv.Atoi(u.Preference); err == nil {
		rank = 100 - min(100, max(0, n))
	} else if n, err := strconv.Atoi(u.Priority); err == nil {
		rank = min(999_999, max(0, n))
	}
	rank *= 2
	if !strings.HasPrefix(u.Address, "https:") {
		rank++
	}
	return rank
}

// parseMetalink reads the addresses of repomd.xml in a metalink: the repository lies two folders above.
func parseMetalink(data []byte) ([]string, error) {
	decoder := xml.NewDecoder(bytes.NewReader(data))
	var urls []metalinkURL
	counts := true // whether the file is repomd.xml
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is no metalink: %w", err)
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok:
		case start.Name.Local == "file":
			counts = false
			for _, a := range start.Attr {
				counts = counts || a.Name.Local == "name" && strings.HasSuffix(a.Value, "repomd.xml")
			}
		case start.Name.Local == "url" && counts:
			var u metalinkURL
			if err := decoder.DecodeElement(&u, &start); err != nil {
				return nil, fmt.Errorf("it is no metalink: %w", err)
			}
			u.Address = strings.TrimSpace(u.Address)
			urls = append(urls, u)
		}
	}
	slices.SortStableFunc(urls, func(a, b metalinkURL) int { return a.rank() - b.rank() })
	var list []string
	for _, u := range urls {
		if base, ok := strings.CutSuffix(u.Address, "repodata/repomd.xml"); ok {
			list = append(list, base)
		}
	}
	return list, nil
}
