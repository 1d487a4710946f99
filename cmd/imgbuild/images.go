package main

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/registry"
)

// listedImage is a container as images --json shows it.
type listedImage struct {
	Name    string            `json:"name"`
	Tag     string            `json:"tag"`
	Digest  string            `json:"digest"`
	Created time.Time         `json:"created"`
	Layers  int               `json:"layers"`
	Size    int64             `json:"size"`
	Labels  map[string]string `json:"labels,omitempty"`
	Problem string            `json:"problem,omitempty"`
}

func newImages(s *session) *cobra.Command {
	var flags storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "images",
		Aliases: []string{"list"},
		Short:   "List the containers of the store",
		GroupID: groupContainers,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.withClient(cmd, &flags, func(client *registry.Client) error {
				entries, err := client.Store().List(cmd.Context())
				if err != nil {
					return err
				}
				return s.showImages(entries, asJSON)
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (s *session) showImages(entries []registry.Entry, asJSON bool) error {
	list := make([]listedImage, 0, len(entries))
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		item := listedImage{Name: e.Name, Tag: e.Tag, Digest: e.Digest.String(), Created: e.Created, Layers: e.Layers, Size: e.Size, Labels: e.Labels}
		if e.Problem != nil {
			item.Problem = e.Problem.Error()
			s.log.Warn("a container can't be read", "name", e.FullName(), "error", e.Problem)
		}
		list = append(list, item)
		rows = append(rows, []string{e.Name, e.Tag, strconv.Itoa(e.Layers), size(e.Size), date(e.Created), shortDigest(item.Digest)})
	}
	if asJSON {
		return s.writeJSON(list)
	}
	return table(s.stdout, []string{"NAME", "TAG", "LAYERS", "SIZE", "CREATED", "DIGEST"}, rows)
}
