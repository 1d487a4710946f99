package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/registry"
)

// inspected is a container as inspect --json shows it.
type inspected struct {
	Name         string            `json:"name"`
	Digest       string            `json:"digest"`
	MediaType    string            `json:"media_type"`
	From         string            `json:"from"`
	Created      time.Time         `json:"created"`
	Author       string            `json:"author,omitempty"`
	Platform     string            `json:"platform"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Config       v1.Config         `json:"config"`
	Size         int64             `json:"size"`
	Layers       []inspectedLayer  `json:"layers"`
	EmptyHistory int               `json:"empty_history,omitempty"` // history entries that made no layer
}

// inspectedLayer is one layer with what the history says of it.
type inspectedLayer struct {
	Digest    string    `json:"digest"`
	DiffID    string    `json:"diff_id"`
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by,omitempty"`
	Author    string    `json:"author,omitempty"`
	Comment   string    `json:"comment,omitempty"`
}

func newInspect(s *session) *cobra.Command {
	var flags fetchFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "inspect NAME[:TAG]",
		Short:   "Show a container's layers and config",
		GroupID: groupContainers,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := flags.options()
			if err != nil {
				return err
			}
			return s.withClient(cmd, &flags.storeFlags, func(client *registry.Client) error {
				image, err := client.Fetch(cmd.Context(), args[0], opts)
				if err != nil {
					return err
				}
				about, err := inspectImage(image)
				if err != nil {
					return fmt.Errorf("inspecting %s: %w", args[0], err)
				}
				if asJSON {
					return s.writeJSON(about)
				}
				return s.showInspected(about)
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func inspectImage(image *registry.Image) (*inspected, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	about := &inspected{Name: image.Name, Digest: image.Digest.String(), MediaType: string(manifest.MediaType), From: image.From,
		Created: config.Created.Time, Author: config.Author, Platform: config.Platform().String(), Annotations: manifest.Annotations,
		Config: config.Config, Layers: []inspectedLayer{}}
	var history []v1.History
	for _, h := range config.History {
		if h.EmptyLayer {
			about.EmptyHistory++
		} else {
			history = append(history, h)
		}
	}
	for i, desc := range manifest.Layers {
		layer := inspectedLayer{Digest: desc.Digest.String(), MediaType: string(desc.MediaType), Size: desc.Size}
		if i < len(config.RootFS.DiffIDs) {
			layer.DiffID = config.RootFS.DiffIDs[i].String()
		}
		if i < len(history) {
			h := history[i]
			layer.Created, layer.CreatedBy, layer.Author, layer.Comment = h.Created.Time, h.CreatedBy, h.Author, h.Comment
		}
		about.Size += desc.Size
		about.Layers = append(about.Layers, layer)
	}
	return about, nil
}

func (s *session) showInspected(about *inspected) error {
	t := tabwriter.NewWriter(s.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "Name:\t%s\nDigest:\t%s\nPlatform:\t%s\nCreated:\t%s\nSize:\t%s\n", about.Name, about.Digest, about.Platform,
		date(about.Created), size(about.Size))
	if about.Author != "" {
		fmt.Fprintf(t, "Author:\t%s\n", about.Author)
	}
	if len(about.Config.Entrypoint)+len(about.Config.Cmd) > 0 {
		fmt.Fprintf(t, "Runs:\t%s\n", strings.Join(append(append([]string{}, about.Config.Entrypoint...), about.Config.Cmd...), " "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout)
	rows := make([][]string, len(about.Layers))
	for i, l := range about.Layers {
		comment := l.Comment
		if comment == "" {
			comment = l.CreatedBy
		}
		comment = strings.Join(strings.Fields(comment), " ")
		if len(comment) > 60 {
			comment = comment[:57] + "..."
		}
		rows[i] = []string{shortDigest(l.Digest), size(l.Size), date(l.Created), comment}
	}
	return table(s.stdout, []string{"LAYER", "SIZE", "CREATED", "COMMENT"}, rows)
}
