package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/registriesconf"
)

const (
	// maxTagPages and maxTagPage bound a list of tags: pages, and bytes of a page.
	maxTagPages = 1000
	maxTagPage  = 8 << 20
	// shownTags is how many tags an error message names.
	shownTags = 6
)

// Tags lists the tags of ref's repository, sorted; tag and digest of ref don't count.
func (c *Client) Tags(ctx context.Context, ref reference.Reference) ([]string, error) {
	ref.Tag, ref.Digest = "", ""
	var tags []string
	err := c.eachEndpoint(ctx, ref, func(_ reference.Reference, e registriesconf.Endpoint) error {
		s, err := c.session(ctx, e, "pull")
		if err == nil {
			tags, err = c.fetchTags(ctx, s)
		}
		return c.explain("listing the tags of", e, err)
	})
	return tags, err
}

func (c *Client) fetchTags(ctx context.Context, s *session) ([]string, error) {
	tags := []string{}
	next := s.url("tags/list") + "?n=1000"
	for page := 0; next != ""; page++ {
		if page == maxTagPages {
			return nil, fmt.Errorf("%w: the list of tags doesn't end", ErrInvalid)
		}
		var body struct {
			Tags []string `json:"tags"`
		}
		var link string
		err := c.retry(ctx, "the tags of "+s.repo.Name(), func() error {
			resp, err := s.do(ctx, request{method: http.MethodGet, url: next, ok: []int{http.StatusOK}})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			link = resp.Header.Get("Link")
			data, err := io.ReadAll(io.LimitReader(resp.Body, maxTagPage))
			if err != nil {
				return err
			}
			if err := json.Unmarshal(data, &body); err != nil {
				return fmt.Errorf("%w: the list of tags: %s", ErrInvalid, clean(err.Error()))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		tags = append(tags, body.Tags...)
		if next, err = nextPage(next, link); err != nil {
			return nil, err
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// nextPage reads the header "Link: <ADDRESS>; rel=next" (distribution specification, "Listing tags"). It stays with the
// registry's host.
func nextPage(current, link string) (string, error) {
	inner, rest, found := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
	if link == "" || !found || !strings.Contains(strings.ReplaceAll(rest, `"`, ""), "rel=next") {
		return "", nil
	}
	base, err := url.Parse(current)
	if err != nil {
		return "", err
	}
	next, err := base.Parse(inner)
	if err != nil || next.Host != base.Host {
		return "", fmt.Errorf("%w: the list of tags goes on at %q", ErrInvalid, clean(inner))
	}
	next.Scheme = base.Scheme
	return next.String(), nil
}

// whichTags turns the error of a missing tag into one that says what tags there are.
func (c *Client) whichTags(ctx context.Context, doing string, s *session, e registriesconf.Endpoint, err error) error {
	var status *statusError
	if !errors.As(err, &status) || status.status != http.StatusNotFound {
		return err
	}
	host, r := e.Reference.Domain, e.Reference
	out := &Error{Doing: doing, Name: nameOf(e), kind: ErrNotFound, cause: err}
	switch {
	case status.has("NAME_UNKNOWN"):
		out.Why = fmt.Sprintf("%s has no repository %q", host, r.Repository)
		out.Hint = "check the name, or log in with podman login " + host + " if it is a private one"
		return out
	case r.Digest != "":
		out.Why = fmt.Sprintf("%s has nothing with this digest in %q", host, r.Repository)
		return out
	}
	tag := r.Identifier()
	out.Why = fmt.Sprintf("%s has no tag %q in %q", host, tag, r.Repository)
	out.Hint = fmt.Sprintf("see the tags with skopeo list-tags docker://%s", r.Name())
	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tags, listErr := c.fetchTags(short, s)
	if listErr != nil || len(tags) == 0 {
		return out
	}
	near := nearest(tags, tag)
	out.Hint = "there is " + strings.Join(near, ", ")
	if len(near) < len(tags) {
		out.Hint += fmt.Sprintf(" and %d more, see skopeo list-tags docker://%s", len(tags)-len(near), r.Name())
	}
	return out
}

// nearest picks the tags that are most like want: the longest common beginning first.
func nearest(tags []string, want string) []string {
	common := func(tag string) int {
		n := 0
		for n < len(tag) && n < len(want) && tag[n] == want[n] {
			n++
		}
		return n
	}
	list := slices.Clone(tags)
	slices.SortStableFunc(list, func(a, b string) int {
		return cmp.Or(cmp.Compare(common(b), common(a)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	for i := range list {
		list[i] = clean(list[i])
	}
	return list[:min(len(list), shownTags)]
}
