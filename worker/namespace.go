package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/remora-backup/remora/internal/remora"
)

// histories is how long Temporal keeps the histories of finished runs. What must be known for longer is in the
// repository.
const histories = 90 * 24 * time.Hour

// ensureNamespace sees that our namespace and its search attributes are there and can be used, and makes what is
// missing. Several workers may do it at once.
func ensureNamespace(ctx context.Context, c client.Client, namespace string, log *slog.Logger) error {
	err := ctx.Err()
	again(ctx, 500*time.Millisecond, func() bool { // every part of the server knows what is new after some seconds
		var made []string
		made, err = tryEnsure(ctx, c, namespace)
		for _, what := range made {
			log.Info("made in Temporal", "what", what, "namespace", namespace)
		}
		return err == nil || final(err)
	})
	if err == nil {
		return nil
	}
	return remora.Fail(remora.Unreachable, "prepare the namespace in Temporal", namespace,
		"Where workers may not do that: create the namespace and the Keyword search attributes "+fmt.Sprint(attributes())+" with the temporal command.",
		"%w", err)
}

// final tells errors that waiting does not mend.
func final(err error) bool {
	return errors.As(err, new(*serviceerror.PermissionDenied)) || errors.As(err, new(*serviceerror.Unimplemented)) || (errors.As(err, new(*serviceerror.InvalidArgument)) && !errors.Is(err, errNotYet))
}

// errNotYet says that something was made and cannot be used yet.
var errNotYet = errors.New("it cannot be used yet")

func attributes() []string {
	return []string{remora.SourceAttribute, remora.KindAttribute, remora.ActorAttribute, remora.OutcomeAttribute}
}

// tryEnsure does one round, and names what it made.
func tryEnsure(ctx context.Context, c client.Client, namespace string) (made []string, err error) {
	_, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	if errors.As(err, new(*serviceerror.NamespaceNotFound)) || errors.As(err, new(*serviceerror.NotFound)) {
		_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
			Namespace: namespace, Description: "Backups and restores of Remora",
			WorkflowExecutionRetentionPeriod: durationpb.New(histories),
		})
		if err != nil && !errors.As(err, new(*serviceerror.NamespaceAlreadyExists)) {
			return nil, err
		}
		return []string{"the namespace"}, errNotYet
	}
	if err != nil {
		return nil, err
	}
	made, listed := ensureAttributes(ctx, c, namespace)
	if len(made) > 0 || (listed != nil && !final(listed)) {
		return made, errors.Join(listed, errNotYet)
	}
	for _, name := range attributes() { // the list knows an attribute before a query does
		if _, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: name + " = 'none'"}); err != nil {
			if listed != nil { // not ours to look at or to make, and not there
				return nil, listed
			}
			return nil, errors.Join(err, errNotYet)
		}
	}
	return nil, nil
}

// ensureAttributes adds the search attributes that are missing, and names them.
func ensureAttributes(ctx context.Context, c client.Client, namespace string) (added []string, err error) {
	known, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, err
	}
	add := map[string]enums.IndexedValueType{}
	for _, name := range attributes() {
		switch found, ok := known.GetCustomAttributes()[name]; {
		case !ok:
			add[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
			added = append(added, "search attribute "+name)
		case found != enums.INDEXED_VALUE_TYPE_KEYWORD:
			return nil, serviceerror.NewUnimplemented(fmt.Sprintf("search attribute %s is there with type %s instead of Keyword", name, found))
		}
	}
	if len(add) == 0 {
		return nil, nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: add})
	if err != nil && !errors.As(err, new(*serviceerror.AlreadyExists)) {
		return nil, err
	}
	return added, nil
}
