// What Lambda puts beside inline JavaScript: how a custom resource answers CloudFormation.
exports.SUCCESS = "SUCCESS";
exports.FAILED = "FAILED";

exports.send = (event, context, responseStatus, responseData, physicalResourceId, noEcho) => {
  const body = JSON.stringify({
    Status: responseStatus,
    Reason: `See the details in CloudWatch Log Stream: ${context.logStreamName}`,
    PhysicalResourceId: physicalResourceId || context.logStreamName,
    StackId: event.StackId,
    RequestId: event.RequestId,
    LogicalResourceId: event.LogicalResourceId,
    NoEcho: noEcho || false,
    Data: responseData,
  });
  const url = new URL(event.ResponseURL);
  const headers = { "content-type": "", "content-length": Buffer.byteLength(body) };
  return new Promise((resolve) => {
    const done = (result) => {
      resolve();
      if (context.done) context.done(null, result);
    };
    const request = require(url.protocol === "https:" ? "https" : "http").request(url, { method: "PUT", headers }, (answer) => {
      answer.resume();
      answer.on("end", () => done(answer.statusCode));
    });
    request.on("error", (error) => {
      console.log("CloudFormation was not reached:", error.message);
      done(null);
    });
    request.end(body);
  });
};
